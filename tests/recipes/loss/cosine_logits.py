"""A toy loss term: one minus the cosine of the two models' logits."""

import torch.nn.functional as F
from torch import Tensor

from distill.objectives.functional.reduction import Temperature
from distill.objectives.terms.base import Batch
from distill.objectives.terms.logit_term import LogitTerm


class CosineLogits(LogitTerm):
    """One minus the cosine similarity of the logits, mean over the rows.

    Args:
        weight: factor of this term in the objective, a number or a schedule.
        teacher: name of the ensemble member to learn from; ``None``: the whole ensemble.
    """

    def __init__(self, weight: float = 1.0, teacher: str | None = None):
        super().__init__(weight, teacher=teacher)

    def compare(
        self, student: Tensor, teacher: Tensor, temperature: Temperature, batch: Batch
    ) -> Tensor:
        """Compute the loss of logits ``(N, C)``."""
        return (1 - F.cosine_similarity(student.float(), teacher.detach().float(), dim=-1)).mean()
