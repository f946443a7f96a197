"""Logits over a large vocabulary that are not computed yet: the rows that an output layer reads."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

WHOLE_LOGITS = 2**24
"""Up to this number of logits of a batch (64 MiB in fp32) they are computed whole."""

CHUNK_LOGITS = 2**21
"""Number of logits of a chunk: 16 rows of 128,256 words, 8 MiB in fp32.

Smaller chunks read the output layer's weight and its gradient more often, larger ones take more
memory; see ``experiments/benchmarks/vocabulary_chunks.py``.
"""


@dataclass(frozen=True)
class HeadRows:
    r"""Rows of hidden states and the linear layer that maps them to logits, :math:`h W^T + b`.

    Attributes:
        hidden: what the layer reads, ``(U, D)``.
        weight: ``(V, D)``.
        bias: ``(V,)``, or ``None``.
    """

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None = None

    def __len__(self) -> int:
        return len(self.hidden)

    @property
    def classes(self) -> int:
        """Number of logits of a row, V."""
        return len(self.weight)

    @property
    def placeholder(self) -> Tensor:
        """A tensor of the logits' shape without numbers: using it as logits is an error."""
        return torch.empty(len(self), self.classes, device="meta")

    def chunks(self, size: int | None = None) -> list[slice]:
        """Return consecutive parts of the rows.

        Args:
            size: maximum number of rows of a part; ``None``: by :data:`CHUNK_LOGITS`.
        """
        size = size or max(1, CHUNK_LOGITS // self.classes)
        return [slice(start, start + size) for start in range(0, len(self), size)]

    def logits(self, rows: slice) -> Tensor:
        """Return the logits of some rows, ``(rows, V)``, in the precision of the weight."""
        return F.linear(self.hidden[rows].to(self.weight.dtype), self.weight, self.bias)
