"""The operations; their public names are in the package itself."""
