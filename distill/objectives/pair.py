"""Shapes of student and teachers that loss terms are validated against."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from distill.modeling.shape import ModelShape


class LearningTask(Protocol):
    """What loss terms need to know of a task.

    Attributes:
        name: as in ``task=NAME``, for messages.
        distribution: what the logits parameterize: ``categorical``, ``spans``, ``bernoulli`` or
            ``gaussian``. Decides which form of a divergence applies.
        per_token: whether the head reads single tokens instead of the whole text.
    """

    @property
    def name(self) -> str:
        """Name of the task."""

    @property
    def distribution(self) -> str:
        """Distribution that the logits parameterize."""

    @property
    def per_token(self) -> bool:
        """Whether the head reads single tokens."""

    def hard_label_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss against labels, a scalar: a sum over labeled rows divided by N."""


@dataclass(frozen=True)
class ModelPair:
    """A student and its teachers, as far as terms have to know them.

    Attributes:
        task: the task that both solve.
        classes: number of logits of the head.
        student: shape of the student.
        teachers: shapes of the teachers by name; a single teacher has the name ``None``.
        same_tokens: by teacher, whether its tokenizer splits texts as the student's does.
    """

    task: LearningTask
    classes: int
    student: ModelShape | None = None
    teachers: Mapping[str | None, ModelShape] | None = None
    same_tokens: Mapping[str | None, bool] | None = None
