"""Regression on the teacher's logits."""

from torch import Tensor

from distill.objectives.functional import soft_targets as functional
from distill.objectives.functional.reduction import Temperature
from distill.objectives.schedules import Schedule
from distill.objectives.terms.base import Batch
from distill.objectives.terms.logit_term import LogitTerm


class LogitsMSE(LogitTerm):
    """Mean squared error of the logits (Ba and Caruana 2014; Kim et al. 2021).

    Args:
        weight: factor of this term in the objective, a number or a schedule.
        standardize: see :class:`LogitTerm`.
        teacher: name of the ensemble member to learn from; ``None``: the whole ensemble.
    """

    distributions = ("categorical", "bernoulli", "gaussian")
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
        """Compute :func:`.logits_mse`; there is no temperature."""
        return functional.logits_mse(student, teacher)
