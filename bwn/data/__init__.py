"""Data files that are installed with bwn."""
