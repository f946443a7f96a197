"""The search for the front of quality against cost: space, trials, reports."""
