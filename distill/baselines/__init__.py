"""Baselines: what needs no neural network, as a yardstick for teacher and student."""
