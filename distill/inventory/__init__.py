"""What cache and run folders hold, who refers to what, and what may be removed; no torch."""
