"""Hard labels: the task's own loss against the labels of the data."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from distill.core.errors import UserError
from distill.modeling.features import ModelOutputs
from distill.objectives.pair import ModelPair
from distill.objectives.schedules import Schedule
from distill.objectives.terms.base import Batch, Term

# How torch's own losses and the tasks mark a row without a label.
IGNORED_LABEL = -100


class HardLabels(Term):
    """The task's loss against the labels; for classification the cross-entropy.

    Examples without a label add 0 and count in the mean: see the task's ``hard_label_loss``.

    Args:
        weight: factor of this term in the objective, a number or a schedule.
        label_smoothing: share of the target that is spread evenly over all classes, from 0 to below
            1 (Szegedy et al. 2016, section 7). Tasks with a distribution over fixed classes only.
    """

    trains_head = True
    row_wise = True

    def __init__(self, weight: float | Schedule = 0.5, label_smoothing: float = 0.0):
        super().__init__(weight)
        self.label_smoothing = label_smoothing
        self.loss: Callable[[Tensor, Tensor], Tensor] | None = None

    def bind(self, pair: ModelPair, path: str) -> None:
        """Take the loss from the task, and validate the smoothing."""
        if not 0 <= self.label_smoothing < 1:
            raise UserError(
                f"{path}.label_smoothing={self.label_smoothing}: it must be 0 or above and below 1"
            )
        if self.label_smoothing and pair.task.criterion.distribution != "categorical":
            raise UserError(
                f"{path}.label_smoothing has no form for {pair.task.name}: it needs one label of "
                "several classes, set it to 0"
            )
        self.loss = pair.task.criterion.hard_label_loss

    def forward(self, student: ModelOutputs, teacher: ModelOutputs | None, batch: Batch) -> Tensor:
        """Compute the loss of ``student.logits`` against ``batch["labels"]``, a scalar."""
        assert self.loss is not None, "the objective was not bound"
        loss = self.loss(student.logits, batch["labels"])
        if not self.label_smoothing:
            return loss
        uniform = uniform_cross_entropy(student.logits, batch["labels"])
        return (1 - self.label_smoothing) * loss + self.label_smoothing * uniform


def uniform_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    r"""Compute the cross-entropy against the uniform distribution over the classes.

    .. math:: -\frac{1}{N} \sum_{n:\, y_n \text{ known}} \frac{1}{C} \sum_c \log p_{nc}

    Args:
        logits: ``(N, C)``.
        labels: ``(N,)``; rows without a label (-100) add nothing to the sum, but count in N.

    Returns:
        Scalar in nats; 0 without any row.
    """
    by_row = -F.log_softmax(logits.float(), dim=-1).mean(-1)
    return (by_row * (labels != IGNORED_LABEL)).sum() / max(len(labels), 1)
