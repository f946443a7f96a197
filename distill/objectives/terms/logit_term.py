"""Base class of the loss terms that compare logits."""

import logging
from abc import abstractmethod
from typing import ClassVar

from torch import Tensor

from distill.core.errors import UserError
from distill.modeling.features import ModelOutputs
from distill.modeling.needs import Need
from distill.objectives.functional.reduction import Temperature
from distill.objectives.functional.soft_targets import standardize
from distill.objectives.pair import ModelPair
from distill.objectives.schedules import Schedule, value_at
from distill.objectives.terms.base import Batch, Term, check_temperature

log = logging.getLogger(__name__)

CATEGORICAL_FORMS = ("categorical", "spans")
"""Distributions of terms that sum over classes and add 0 for a class that both models rule out.

The positions that a shorter text of a batch does not have are such classes.
"""


class LogitTerm(Term):
    """A loss between the logits of student and teacher, softened by a temperature.

    The teacher's logits may come from the cache.

    Args:
        weight: factor of this term in the objective, a number or a schedule.
        temperature: T > 0, a number or a schedule; a higher one gives more weight to the classes
            that the teacher considers unlikely.
        standardize: standardize both models' logits over the classes to mean 0 and standard
            deviation 1 first (Sun et al. 2024, "Logit Standardization in Knowledge Distillation").
            Refused for two classes, of which only the sign would be left.
        teacher: name of the ensemble member to learn from; ``None``: the whole ensemble.

    Attributes:
        distributions: distributions that the term has a form for, as a task names them.
        least_classes: minimum number of classes of a categorical distribution.
        distribution: the task's, known after :meth:`bind`.
    """

    needs = frozenset({Need.LOGITS})
    trains_head = True
    distributions: ClassVar[tuple[str, ...]] = ("categorical",)
    least_classes: ClassVar[int] = 2

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        temperature: float | Schedule = 1.0,
        standardize: bool = False,
        teacher: str | None = None,
    ):
        super().__init__(weight, teacher)
        self.temperature, self.standardize = temperature, standardize
        self.distribution = "categorical"

    @property
    def has_adaptive_temperature(self) -> bool:
        """Whether each example has its own temperature."""
        return isinstance(self.temperature, Schedule) and self.temperature.adaptive

    def bind(self, pair: ModelPair, path: str) -> None:
        """Validate temperature, distribution and number of classes."""
        check_temperature(self.temperature, path)
        self.check_teacher(pair, path)
        self.distribution, task = pair.task.criterion.distribution, pair.task.name
        if self.distribution not in self.distributions:
            raise UserError(f"{path}: it has no form for {task}, use soft_targets (objective=kd)")
        if self.distribution != "categorical" and self.has_adaptive_temperature:
            raise UserError(
                f"{path}.temperature: an adaptive schedule needs a distribution over classes, "
                f"which {task} does not have"
            )
        if self.distribution == "gaussian":
            log.info("%s: squared error of the numbers, the temperature is not used", path)
        if self.standardize:
            self._check_standardize(pair, path)
        if pair.classes < self.least_classes and self.distribution == "categorical":
            raise UserError(
                f"{path} needs {self.least_classes} classes or more and the data have "
                f"{pair.classes}: on two it carries no information, use soft_targets (objective=kd)"
            )

    def _check_standardize(self, pair: ModelPair, path: str) -> None:
        if self.distribution == "spans":
            raise UserError(
                f"{path}.standardize=true has no form for {pair.task.name}: texts have different "
                "numbers of positions"
            )
        if self.distribution != "categorical" or pair.classes < 3:
            raise UserError(
                f"{path}.standardize=true needs three classes or more: of two, standardized "
                "logits keep the sign only"
            )

    def forward(self, student: ModelOutputs, teacher: ModelOutputs | None, batch: Batch) -> Tensor:
        """Compute the loss from ``logits`` ``(N, C)`` of both models, a scalar."""
        assert teacher is not None
        student_logits = student.logits
        if not len(student_logits):  # no labeled position in the batch: the mean does not exist
            return student_logits.sum() * 0.0
        temperature = value_at(self.temperature, self.progress, student_logits, teacher.logits)
        teacher_logits = teacher.logits_at(temperature)
        if self.standardize:
            student_logits, teacher_logits = (
                standardize(student_logits),
                standardize(teacher_logits),
            )
        return self.compare(student_logits, teacher_logits, temperature, batch)

    @abstractmethod
    def compare(
        self, student: Tensor, teacher: Tensor, temperature: Temperature, batch: Batch
    ) -> Tensor:
        """Compute the loss.

        Args:
            student: logits ``(N, C)``.
            teacher: logits ``(N, C)``.
            temperature: a number, or ``(N, 1)``.
            batch: with ``labels`` ``(N,)``.

        Returns:
            Scalar.
        """


def check_part_weights(term: LogitTerm, names: tuple[str, str], path: str) -> None:
    """Validate the weights of a term's two parts.

    Raises:
        UserError: if one is negative or both are 0.
    """
    for name in names:
        if getattr(term, name) < 0:
            raise UserError(f"{path}.{name}={getattr(term, name)}: it must be 0 or above")
    if not any(getattr(term, name) for name in names):
        raise UserError(f"{path}: {names[0]} and {names[1]} are both 0, which leaves nothing")
