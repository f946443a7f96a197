"""The search for the front: what is searched, the trials, their report."""
