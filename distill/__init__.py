"""Distil a BERT into a smaller student and report what it costs.

Only light imports here: ``distill --help`` and ``distill-report`` must answer at once.
"""

__version__ = "0.1.0"
