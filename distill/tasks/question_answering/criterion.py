"""Start and end as distributions over the positions of a window."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.data.labels import IGNORED_LABEL
from distill.objectives.criterion import Criterion, Distribution

# Logit of positions that a shorter window does not have: its probability is exactly 0 in fp32 at
# every temperature below some millions, and its logarithm finite.
MISSING_LOGIT = -1e9


class SpanCriterion(Criterion):
    """A categorical distribution over positions for start and end, cross-entropy on labels."""

    distribution: ClassVar[Distribution] = "spans"

    def to_distributions(self, logits: Tensor, batch: Mapping[str, Any]) -> Tensor:
        """See :func:`pad_positions`; ``batch`` has ``position_counts``."""
        return pad_positions(logits, batch["position_counts"])

    def from_distributions(self, distributions: Tensor, batch: Mapping[str, Any]) -> Tensor:
        """Return ``(2 B, L)`` as ``(U, 2)``."""
        present = _present(batch["position_counts"].to(distributions.device))
        logits: Tensor = distributions.unflatten(0, (-1, 2)).transpose(1, 2)[present]
        return logits

    def hard_label_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        r"""Cross-entropy of start and end in fp32: ``(2 B, L)``, ``(2 B,)`` -> scalar.

        .. math:: \frac{1}{2 B} \sum_{b} (-\log p^{start}_{b, y_b} - \log p^{end}_{b, y'_b})

        BERT's, the mean of the two (Devlin et al. 2019, section 4.2). Windows of inputs without
        labels add nothing to the sum, but count in B.
        """
        total = F.cross_entropy(logits.float(), labels, ignore_index=IGNORED_LABEL, reduction="sum")
        return total / len(labels)


def pad_positions(logits: Tensor, counts: Tensor) -> Tensor:
    """Arrange the logits of all positions as one row per start and end.

    Args:
        logits: start and end logits, ``(U, 2)``.
        counts: number of positions of each window, ``(B,)``; they sum to U.

    Returns:
        ``(2 B, L)`` in fp32: start, end, start, end, ...; L is the largest count, and positions
        that a window does not have are ``MISSING_LOGIT``.
    """
    present = _present(counts.to(logits.device))
    shape = len(present), 2, present.shape[1]
    rows = logits.new_full(shape, MISSING_LOGIT, dtype=torch.float32)
    rows.transpose(1, 2)[present] = logits.float()
    return rows.flatten(0, 1)


def _present(counts: Tensor) -> Tensor:
    """Return which positions exist, ``(B,)`` -> ``(B, L)``."""
    return torch.arange(int(counts.max()), device=counts.device) < counts[:, None]
