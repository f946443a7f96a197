"""distill.data.labels"""

IGNORED_LABEL = -100
