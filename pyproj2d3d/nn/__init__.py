"""Layers and networks, 3D and 2D; import what you need from its modules."""
