"""Serve config files: a package, so that they come with an installed Auricle."""
