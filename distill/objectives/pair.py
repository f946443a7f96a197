"""distill.objectives.pair"""

from collections.abc import Mapping
from dataclasses import dataclass

from distill.modeling.shape import ModelShape


@dataclass(frozen=True)
class ModelPair:
    """A student and its teachers.

    Attributes:
        task: what both do.
        classes: how many logits the head has.
        student: its shape.
        teachers: their shapes by name; a single teacher's name is ``None``.
        same_tokens: by teacher, whether it and the student cut texts into the same tokens.
    """

    task: object
    classes: int
    student: ModelShape | None = None
    teachers: Mapping[str | None, ModelShape] | None = None
    same_tokens: Mapping[str | None, bool] | None = None
