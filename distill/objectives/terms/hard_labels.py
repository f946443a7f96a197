"""Hard labels: the task's own loss against the labels of the data."""

from collections.abc import Callable

from torch import Tensor

from distill.modeling.features import ModelOutputs
from distill.objectives.pair import ModelPair
from distill.objectives.schedules import Schedule
from distill.objectives.terms.base import Batch, Term


class HardLabels(Term):
    """The task's loss against the labels; for classification the cross-entropy.

    Examples without a label add 0 and count in the mean: see the task's ``hard_label_loss``.

    Args:
        weight: factor of this term in the objective, a number or a schedule.
    """

    trains_head = True

    def __init__(self, weight: float | Schedule = 0.5):
        super().__init__(weight)
        self.loss: Callable[[Tensor, Tensor], Tensor] | None = None

    def bind(self, pair: ModelPair, path: str) -> None:
        """Take the loss from the task."""
        self.loss = pair.task.criterion.hard_label_loss

    def forward(self, student: ModelOutputs, teacher: ModelOutputs | None, batch: Batch) -> Tensor:
        """Compute the loss of ``student.logits`` against ``batch["labels"]``, a scalar."""
        assert self.loss is not None, "the objective was not bound"
        return self.loss(student.logits, batch["labels"])
