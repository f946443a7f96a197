"""Readers of file formats that ``datasets`` does not know."""
