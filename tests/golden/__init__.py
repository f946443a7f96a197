"""Golden files: what runs of the command give, to the bit, however the package is built inside."""
