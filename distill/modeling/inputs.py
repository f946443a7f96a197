"""Names of model inputs that forward passes look at."""

from collections.abc import Mapping

from torch import Tensor

POSITIONS = "positions"
"""Token positions ``(B, P)`` that the head reads, padded with -1; no argument of the model."""
MASK = "attention_mask"
"""Which tokens exist, ``(B, L)``."""


def batch_size(inputs: Mapping[str, Tensor]) -> int:
    """Return the number of examples of a batch."""
    return len(next(iter(inputs.values())))
