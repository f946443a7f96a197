"""The terms an objective is made of, one family a file."""
