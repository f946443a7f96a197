"""From measurements to what a person reads."""
