"""Data: sources, tokenisation and batches."""
