"""Evaluation of models: size, speed, quality, calibration, fidelity."""
