"""Base class of the loss terms that an objective is composed of."""

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from distill.core.errors import UserError
from distill.modeling.features import ModelOutputs
from distill.modeling.needs import Need, as_needs
from distill.modeling.shape import ModelShape
from distill.objectives.pair import ModelPair
from distill.objectives.schedules import Schedule, schedule_bounds

Batch = Mapping[str, Tensor]
"""What terms read of a batch: ``labels``, as the task arranges them."""


class Term(nn.Module, ABC):
    """One weighted summand of an objective.

    A subclass declares what it needs and implements :meth:`forward`. Every constructor argument is
    kept as an attribute of the same name. A subclass with an unknown need is refused when the class
    is created, one without ``forward`` when it is instantiated.

    Args:
        weight: factor in the sum, a number or a schedule; while it is 0 the term is not computed.
        teacher: name of the ensemble member to learn from; ``None``: the whole ensemble, or the
            only teacher.

    Attributes:
        needs: outputs of the models that :meth:`forward` reads. Empty: the term has no teacher.
            Anything beyond ``Need.LOGITS`` runs the teacher live.
        compares_tokens: whether student and teacher are compared token by token, so that both must
            read the same tokens.
        trains_head: whether the term trains the student's head, so that its metric on the
            validation split is meaningful.
        row_wise: whether the term reads nothing but logits and labels and is a mean over their
            rows, so that it can be computed for some rows at a time.
        stack: stack of layers that is compared where a model has several (``encoder``,
            ``decoder``); ``None``: the only one.
        progress: fraction of the training that is done, from 0 to 1; set before every call.
    """

    needs: frozenset[Need] = frozenset()
    compares_tokens: bool = False
    trains_head: bool = False
    row_wise: bool = False
    stack: str | None = None

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        cls.needs = as_needs(cls.needs, cls.__name__)

    def __init__(self, weight: float | Schedule = 1.0, teacher: str | None = None):
        super().__init__()
        self.weight, self.teacher, self.progress = weight, teacher, 0.0

    def bind(self, pair: ModelPair, path: str) -> None:
        """Validate the settings against the models; called once, before any training.

        Args:
            pair: the student and its teachers.
            path: name of this term in messages, such as ``objective.soft_targets``.

        Raises:
            UserError: if the term cannot be computed for them.
        """

    @abstractmethod
    def forward(self, student: ModelOutputs, teacher: ModelOutputs | None, batch: Batch) -> Tensor:
        """Compute the loss.

        Args:
            student: the student's outputs, with gradient.
            teacher: the teacher's outputs; ``None`` only if the term needs nothing.
            batch: with ``labels``.

        Returns:
            Scalar, not yet weighted.
        """

    @property
    def reads_logits(self) -> bool:
        """Whether :meth:`forward` reads logits of the student; a term without a teacher may."""
        return not self.needs or self.trains_head or Need.LOGITS in self.needs

    @property
    def settings(self) -> dict[str, Any]:
        """Constructor arguments by name, for the report."""
        return {
            name: getattr(self, name)
            for name in inspect.signature(type(self).__init__).parameters
            if name != "self"
        }

    def check_weight(self, path: str) -> None:
        """Validate the weight.

        Raises:
            UserError: if it is negative, not finite, or adaptive.
        """
        if isinstance(self.weight, Schedule) and self.weight.adaptive:
            raise UserError(
                f"{path}.weight: an adaptive schedule is for temperatures, use a schedule of time"
            )
        for value in schedule_bounds(self.weight):
            if not (isinstance(value, int | float) and value >= 0 and math.isfinite(value)):
                raise UserError(f"{path}.weight={value}: it must be 0 or above")

    def check_teacher(self, pair: ModelPair, path: str) -> None:
        """Validate the name of the teacher.

        Raises:
            UserError: if no teacher has it.
        """
        if self.teacher is None or self.teacher in (pair.teachers or {}):
            return
        names = [name for name in pair.teachers or {} if name is not None]
        known = f"there are {', '.join(names)}" if names else "the only teacher has no name"
        raise UserError(f"{path}.teacher={self.teacher}: there is no such teacher, {known}")

    def shapes(self, pair: ModelPair, path: str) -> tuple[ModelShape, ModelShape]:
        """Return the shapes of the student and of the term's teacher.

        Raises:
            UserError: if no single teacher is named, or tokens are compared that differ.
        """
        assert pair.student is not None and pair.teachers is not None
        self.check_teacher(pair, path)
        if self.teacher not in pair.teachers:
            names = ", ".join(map(str, pair.teachers))
            raise UserError(f"{path}.teacher: name the teacher to compare with, one of {names}")
        if self.compares_tokens and not (pair.same_tokens or {}).get(self.teacher, True):
            raise UserError(
                f"{path} compares token by token, but teacher and student tokenize differently: "
                "use a student with the teacher's tokenizer, or an objective on logits"
            )
        return (
            stack_shape(pair.student, self.stack, f"{path}.stack: the student"),
            stack_shape(pair.teachers[self.teacher], self.stack, f"{path}.stack: the teacher"),
        )


def stack_shape(shape: ModelShape, stack: str | None, place: str) -> ModelShape:
    """Return the shape of the stack of layers that a term looks at.

    Args:
        shape: shape of a model.
        stack: name of one of its stacks; ``None``: the only one.
        place: start of the message.

    Raises:
        UserError: if the model has several and none is named, or no such stack.
    """
    known = ", ".join(shape.stacks) or "a single one without a name"
    if stack is None:
        if len(shape.stacks) > 1:
            raise UserError(f"{place} has several stacks of layers, name one: {known}")
        return shape
    if stack not in shape.stacks:
        raise UserError(f"{place} has no stack called {stack}, it has {known}")
    return shape.stacks[stack]


def check_temperature(temperature: float | Schedule, path: str) -> None:
    """Validate a temperature.

    Raises:
        UserError: if it is not a finite number above 0.
    """
    for value in schedule_bounds(temperature):
        if not (isinstance(value, int | float) and value > 0 and math.isfinite(value)):
            raise UserError(f"{path}.temperature={value}: it must be above 0")
