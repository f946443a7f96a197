"""Divergences between the distributions of student and teacher other than the forward KL."""

from torch import Tensor

from distill.core.errors import UserError
from distill.objectives.functional import divergences as functional
from distill.objectives.functional.reduction import Temperature
from distill.objectives.pair import ModelPair
from distill.objectives.schedules import Schedule
from distill.objectives.terms.base import Batch
from distill.objectives.terms.logit_term import CATEGORICAL_FORMS, LogitTerm


class ReverseKL(LogitTerm):
    """KL divergence from the student's distribution (Gu et al. 2024, MiniLLM), scaled by T^2.

    Args:
        weight: factor of this term in the objective, a number or a schedule.
        temperature: T > 0, a number or a schedule.
        standardize: see :class:`LogitTerm`.
        teacher: name of the ensemble member to learn from; ``None``: the whole ensemble.
    """

    distributions = CATEGORICAL_FORMS
    row_wise = True

    def compare(
        self, student: Tensor, teacher: Tensor, temperature: Temperature, batch: Batch
    ) -> Tensor:
        """Compute :func:`.reverse_kl`."""
        return functional.reverse_kl(student, teacher, temperature)


class TotalVariation(LogitTerm):
    """Total variation distance of the distributions (Wen et al. 2023), scaled by T.

    Args:
        weight: factor of this term in the objective, a number or a schedule.
        temperature: T > 0, a number or a schedule.
        standardize: see :class:`LogitTerm`.
        teacher: name of the ensemble member to learn from; ``None``: the whole ensemble.
    """

    distributions = CATEGORICAL_FORMS
    row_wise = True

    def compare(
        self, student: Tensor, teacher: Tensor, temperature: Temperature, batch: Batch
    ) -> Tensor:
        """Compute :func:`.total_variation`."""
        return functional.total_variation(student, teacher, temperature)


class JensenShannon(LogitTerm):
    """Generalized Jensen-Shannon divergence (Agarwal et al. 2024, GKD), scaled by T^2.

    Args:
        weight: factor of this term in the objective, a number or a schedule.
        temperature: T > 0, a number or a schedule.
        beta: weight of the teacher in the mixture, between 0 and 1; 0.5 is symmetric.
        standardize: see :class:`LogitTerm`.
        teacher: name of the ensemble member to learn from; ``None``: the whole ensemble.
    """

    distributions = CATEGORICAL_FORMS
    row_wise = True

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        temperature: float | Schedule = 1.0,
        beta: float = 0.5,
        standardize: bool = False,
        teacher: str | None = None,
    ):
        super().__init__(weight, temperature, standardize, teacher)
        self.beta = beta

    def bind(self, pair: ModelPair, path: str) -> None:
        """Validate the mixture as well."""
        super().bind(pair, path)
        if not 0 < self.beta < 1:
            raise UserError(f"{path}.beta={self.beta}: it must lie between 0 and 1")

    def compare(
        self, student: Tensor, teacher: Tensor, temperature: Temperature, batch: Batch
    ) -> Tensor:
        """Compute :func:`.jensen_shannon`."""
        return functional.jensen_shannon(student, teacher, temperature, self.beta)


class SkewedKL(LogitTerm):
    """KL divergence from a mixture of both distributions (Ko et al. 2024, DistiLLM), scaled by T^2.

    Args:
        weight: factor of this term in the objective, a number or a schedule.
        temperature: T > 0, a number or a schedule.
        skew: weight of the first distribution in the mixture, from 0 to below 1.
        reverse: compute the student's divergence from the mixture instead of the teacher's.
        standardize: see :class:`LogitTerm`.
        teacher: name of the ensemble member to learn from; ``None``: the whole ensemble.
    """

    distributions = CATEGORICAL_FORMS
    row_wise = True

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        temperature: float | Schedule = 1.0,
        skew: float = 0.1,
        reverse: bool = False,
        standardize: bool = False,
        teacher: str | None = None,
    ):
        super().__init__(weight, temperature, standardize, teacher)
        self.skew, self.reverse = skew, reverse

    def bind(self, pair: ModelPair, path: str) -> None:
        """Validate the mixture as well."""
        super().bind(pair, path)
        if not 0 <= self.skew < 1:
            raise UserError(f"{path}.skew={self.skew}: it must be 0 or above and below 1")

    def compare(
        self, student: Tensor, teacher: Tensor, temperature: Temperature, batch: Batch
    ) -> Tensor:
        """Compute :func:`.skewed_kl` or :func:`.skewed_reverse_kl`."""
        loss = functional.skewed_reverse_kl if self.reverse else functional.skewed_kl
        return loss(student, teacher, temperature, self.skew)
