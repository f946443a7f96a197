"""What a task's logits mean, and its loss on hard labels."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from torch import Tensor

Distribution = Literal["categorical", "bernoulli", "gaussian", "spans"]
"""Distribution that logits parametrize; ``spans``: categorical over the positions of an input."""


class Criterion(ABC):
    """Loss on hard labels, and how logits become distributions that loss terms compare.

    Attributes:
        distribution: decides the form of the terms on logits.
        caches_logits: whether a teacher's logits are small enough to be stored.
        row_wise: whether logits are used as they are and the loss is a mean over their rows, so
            that both can be computed for some rows at a time.
    """

    distribution: ClassVar[Distribution]
    caches_logits: ClassVar[bool] = True
    row_wise: ClassVar[bool] = False

    @abstractmethod
    def hard_label_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss: a sum over the labeled rows, divided by the number of all rows.

        Args:
            logits: as :meth:`to_distributions` returns them.
            labels: the batch's labels.
        """

    def to_distributions(self, logits: Tensor, batch: Mapping[str, Any]) -> Tensor:
        """Arrange a model's logits as one distribution per row."""
        return logits

    def from_distributions(self, distributions: Tensor, batch: Mapping[str, Any]) -> Tensor:
        """Invert :meth:`to_distributions`."""
        return distributions
