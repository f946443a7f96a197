"""What a loss term needs of a model's forward pass."""

from enum import StrEnum


class Need(StrEnum):
    """An output of a model. Anything beyond logits requires the teacher to run live."""

    LOGITS = "logits"
    HIDDEN_STATES = "hidden_states"
    ATTENTION = "attention"
