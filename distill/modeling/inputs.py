"""Names of model inputs that forward passes look at."""

from collections.abc import Mapping

from torch import Tensor

POSITIONS = "positions"
"""Token positions ``(B, P)`` that the head reads, padded with -1; no argument of the model."""
MASK = "attention_mask"
"""Which tokens exist, ``(B, L)``."""
PIXELS = "pixel_values"
"""Images ``(B, C, H, W)``."""


def batch_size(inputs: Mapping[str, Tensor]) -> int:
    """Return the number of examples of a batch."""
    # Not len(), which would become a constant in an exported graph.
    return next(iter(inputs.values())).shape[0]
