"""Metrics and statistics on arrays: numpy alone, no torch."""
