"""Hard labels: what the data set says, by the task's own loss."""

from collections.abc import Callable

from torch import Tensor


class HardLabels:
    """The task's loss against the labels (cross-entropy for classification).

    Examples without a label add 0 and count in the mean: see the task's ``hard_label_loss``.

    Args:
        weight: factor of this term in the objective.
    """

    needs = frozenset()

    def __init__(self, weight: float = 0.5):
        self.weight = weight
        self.loss: Callable[[Tensor, Tensor], Tensor] | None = None

    def bind(self, task) -> None:
        """Take the loss from the task; called once, by the objective."""
        self.loss = task.hard_label_loss

    def __call__(self, student, teacher, batch: dict[str, Tensor]) -> Tensor:
        """Student output with ``logits`` and ``batch["labels"]`` -> scalar."""
        assert self.loss is not None, "the objective was not bound to a task"
        return self.loss(student.logits, batch["labels"])
