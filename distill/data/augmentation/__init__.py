"""Augmentations: new texts generated from training examples."""
