"""Losses with more than a line to them, and their targets; import what you need from its modules."""
