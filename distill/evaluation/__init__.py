"""Measuring models: size, speed, quality, calibration, fidelity."""
