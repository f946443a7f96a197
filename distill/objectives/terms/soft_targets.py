"""Losses against the teacher's distribution over the classes as the target."""

from torch import Tensor

from distill.objectives.functional import soft_targets as functional
from distill.objectives.functional.reduction import Temperature
from distill.objectives.schedules import Schedule
from distill.objectives.terms.base import Batch
from distill.objectives.terms.logit_term import CATEGORICAL_FORMS, LogitTerm


class SoftTargets(LogitTerm):
    """KL divergence from the teacher's softened distribution, scaled by T^2 (Hinton et al. 2015).

    Multi-label tasks: the divergence of each class's Bernoulli distribution. Regression: squared
    error.

    Args:
        weight: factor of this term in the objective, a number or a schedule.
        temperature: T > 0, a number or a schedule.
        standardize: see :class:`LogitTerm`.
        teacher: name of the ensemble member to learn from; ``None``: the whole ensemble.
    """

    distributions = (*CATEGORICAL_FORMS, "bernoulli", "gaussian")
    row_wise = True

    def __init__(
        self,
        weight: float | Schedule = 0.5,
        temperature: float | Schedule = 2.0,
        standardize: bool = False,
        teacher: str | None = None,
    ):
        super().__init__(weight, temperature, standardize, teacher)

    def compare(
        self, student: Tensor, teacher: Tensor, temperature: Temperature, batch: Batch
    ) -> Tensor:
        """Compute :func:`.soft_target_kl`, or the form of another distribution."""
        if self.distribution == "gaussian":
            return functional.logits_mse(student, teacher)
        if self.distribution == "bernoulli":
            return functional.binary_soft_target_kl(student, teacher, temperature)
        return functional.soft_target_kl(student, teacher, temperature)


class SoftCrossEntropy(LogitTerm):
    """Cross-entropy against the teacher's softened distribution, scaled by T^2.

    The gradient is that of :class:`SoftTargets` (TinyBERT's prediction loss, Jiao et al. 2020, eq.
    10, at T = 1). Regression: squared error to the teacher's numbers; TinyBERT's code
    (``task_distill.py``) takes that to the labels, as :class:`.HardLabels` does.

    Args:
        weight: factor of this term in the objective, a number or a schedule.
        temperature: T > 0, a number or a schedule.
        standardize: see :class:`LogitTerm`.
        teacher: name of the ensemble member to learn from; ``None``: the whole ensemble.
    """

    distributions = (*CATEGORICAL_FORMS, "gaussian")
    row_wise = True

    def compare(
        self, student: Tensor, teacher: Tensor, temperature: Temperature, batch: Batch
    ) -> Tensor:
        """Compute :func:`.soft_cross_entropy`, or the squared error of numbers."""
        if self.distribution == "gaussian":
            return functional.logits_mse(student, teacher)
        return functional.soft_cross_entropy(student, teacher, temperature)


class HardTeacherLabels(LogitTerm):
    """Cross-entropy against the class that the teacher predicts (Touvron et al. 2021, DeiT, eq. 3).

    Args:
        weight: factor of this term in the objective, a number or a schedule.
        standardize: see :class:`LogitTerm`.
        teacher: name of the ensemble member to learn from; ``None``: the whole ensemble.
    """

    distributions = CATEGORICAL_FORMS
    row_wise = True

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        standardize: bool = False,
        teacher: str | None = None,
    ):
        super().__init__(weight, 1.0, standardize, teacher)

    def compare(
        self, student: Tensor, teacher: Tensor, temperature: Temperature, batch: Batch
    ) -> Tensor:
        """Compute :func:`.hard_teacher_labels`; there is no temperature."""
        return functional.hard_teacher_labels(student, teacher)
