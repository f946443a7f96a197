"""Constants shared by everything that reads or writes labels."""

IGNORED_LABEL = -100
"""Label id of positions and examples without a label; ignored by every loss and metric."""
