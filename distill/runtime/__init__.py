"""Runtimes for exported students that need neither torch nor transformers.

Each file is self-contained: an exported folder carries it along.
"""
