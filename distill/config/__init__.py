"""Configs: composition, validation, names of earlier versions, and messages about mistakes."""
