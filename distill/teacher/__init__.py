"""The teacher: readied, stored, and its outputs computed once."""
