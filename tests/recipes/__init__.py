"""Toy components built outside of the package by the recipes of CONTRIBUTING.md."""
