"""What every term of an objective is."""

import inspect
import math
from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from distill.core.errors import UserError
from distill.modeling.features import ModelOutputs
from distill.modeling.shape import ModelShape
from distill.objectives.pair import ModelPair
from distill.objectives.schedules import Schedule, schedule_bounds


class Term(nn.Module, ABC):
    """One named summand of the objective. A subclass says what it needs and computes ``forward``.

    Args:
        weight: factor in the sum, a number or a schedule; at 0 the term is not computed at all.
        teacher: of an ensemble, the member it looks at; ``None``: all of them together.

    Attributes:
        needs: what it reads of the models: any of ``logits``, ``hidden_states``, ``attention``.
            Empty: it works without a teacher. Anything beyond ``logits`` runs the teacher live.
        per_token: whether it compares token by token, so that both must read the same tokens.
        trains_head: whether it teaches the head, so that validation can choose by its metric.
        progress: how much of the training is done, from 0 to 1; set before every call.
    """

    needs: frozenset[str] = frozenset()
    per_token = False
    trains_head = False

    def __init__(self, weight: float | Schedule = 1.0, teacher: str | None = None):
        super().__init__()
        self.weight, self.teacher, self.progress = weight, teacher, 0.0

    def bind(self, pair: ModelPair, path: str) -> None:
        """Learn who is paired; called once, before anything is trained.

        Args:
            pair: the student and its teachers.
            path: how messages call this term, such as ``objective.soft_targets``.

        Raises:
            UserError: if the term cannot work for them.
        """

    @abstractmethod
    def forward(
        self, student: ModelOutputs, teacher: ModelOutputs | None, batch: dict[str, Any]
    ) -> Tensor:
        """Both models' outputs and the batch -> scalar, not yet weighted."""

    @property
    def settings(self) -> dict[str, Any]:
        """What it was made with, for the report."""
        return {
            name: getattr(self, name)
            for name in inspect.signature(type(self).__init__).parameters
            if name != "self"
        }

    def check_weight(self, path: str) -> None:
        """Refuse what is no weight.

        Raises:
            UserError: if it is negative, not finite, or adaptive.
        """
        if getattr(self.weight, "adaptive", False):
            raise UserError(f"{path}.weight: an adaptive schedule is for temperatures")
        for value in schedule_bounds(self.weight):
            if not (isinstance(value, int | float) and value >= 0 and math.isfinite(value)):
                raise UserError(f"{path}.weight={value}: it must be 0 or above")

    def check_teacher(self, pair: ModelPair, path: str) -> None:
        """Refuse the name of a teacher that there is not.

        Raises:
            UserError: naming those that there are.
        """
        if self.teacher is None or self.teacher in (pair.teachers or {}):
            return
        names = [name for name in pair.teachers or {} if name is not None]
        there = f"there are {', '.join(names)}" if names else "there is one, without a name"
        raise UserError(f"{path}.teacher={self.teacher}: there is no such teacher, {there}")

    def shapes(self, pair: ModelPair, path: str) -> tuple[ModelShape, ModelShape]:
        """The student's shape and that of the teacher it looks at.

        Raises:
            UserError: if it compares tokens, or insides, that cannot be compared.
        """
        assert pair.student is not None and pair.teachers is not None
        self.check_teacher(pair, path)
        if self.teacher not in pair.teachers:
            names = ", ".join(map(str, pair.teachers))
            raise UserError(f"{path}.teacher: name the teacher it looks at, one of {names}")
        if self.per_token and not (pair.same_tokens or {}).get(self.teacher, True):
            raise UserError(
                f"{path} compares token by token, but teacher and student cut texts differently: "
                "use a student with the teacher's tokenizer, or an objective on logits"
            )
        return pair.student, pair.teachers[self.teacher]


def check_temperature(temperature: float | Schedule, path: str) -> None:
    """Refuse a temperature that is not above 0.

    Raises:
        UserError: naming it.
    """
    for value in schedule_bounds(temperature):
        if not (isinstance(value, int | float) and value > 0 and math.isfinite(value)):
            raise UserError(f"{path}.temperature={value}: it must be above 0")
