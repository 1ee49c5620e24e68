"""Synthetic speech in four languages, with everything that was said known to the sample."""
