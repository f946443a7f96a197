"""Data: sources, preparation, encoding and batches."""
