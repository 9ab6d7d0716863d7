"""The baseline and the published methods, one file each: read it from top to bottom."""
