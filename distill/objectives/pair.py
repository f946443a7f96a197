"""A student and its teachers, as loss terms see them before anything is trained."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from distill.modeling.shape import ModelShape
from distill.objectives.criterion import Criterion


class PairedTask(Protocol):
    """What loss terms need to know of a task."""

    @property
    def name(self) -> str:
        """Name of the task, for messages."""

    @property
    def criterion(self) -> Criterion:
        """Meaning of the logits and loss on hard labels."""

    @property
    def token_level(self) -> bool:
        """Whether logits belong to single tokens."""


@dataclass(frozen=True)
class ModelPair:
    """Shapes of student and teachers that loss terms are validated against.

    Attributes:
        task: the task of both.
        classes: number of outputs of the head.
        student: shape of the student.
        teachers: shapes of the teachers by name; the name of a single teacher is ``None``.
        same_tokens: by teacher, whether it and the student read the same tokens.
    """

    task: PairedTask
    classes: int
    student: ModelShape | None = None
    teachers: Mapping[str | None, ModelShape] | None = None
    same_tokens: Mapping[str | None, bool] | None = None
