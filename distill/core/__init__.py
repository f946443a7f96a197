"""What every other package may use: errors, cache, hub, hardware, jagged arrays."""
