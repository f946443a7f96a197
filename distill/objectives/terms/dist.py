"""Correlations between and within classes (DIST)."""

from torch import Tensor

from distill.core.errors import UserError
from distill.objectives.functional import dist as functional
from distill.objectives.functional.reduction import Temperature
from distill.objectives.pair import ModelPair
from distill.objectives.schedules import Schedule
from distill.objectives.terms.base import Batch
from distill.objectives.terms.logit_term import LogitTerm, check_part_weights


class DIST(LogitTerm):
    """Correlations over the classes and over the examples (Huang et al. 2022, DIST).

    Args:
        weight: factor of this term in the objective, a number or a schedule.
        temperature: T > 0, a number or a schedule of time; one for all examples.
        inter_weight: weight of the correlation over the classes, the paper's beta.
        intra_weight: weight of the correlation over the examples of a batch, the paper's gamma.
        standardize: see :class:`LogitTerm`.
        teacher: name of the ensemble member to learn from; ``None``: the whole ensemble.
    """

    least_classes = 3

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        temperature: float | Schedule = 1.0,
        inter_weight: float = 1.0,
        intra_weight: float = 1.0,
        standardize: bool = False,
        teacher: str | None = None,
    ):
        super().__init__(weight, temperature, standardize, teacher)
        self.inter_weight, self.intra_weight = inter_weight, intra_weight

    def bind(self, pair: ModelPair, path: str) -> None:
        """Validate weights and temperature as well."""
        super().bind(pair, path)
        check_part_weights(self, ("inter_weight", "intra_weight"), path)
        if self.has_adaptive_temperature:
            raise UserError(
                f"{path}.temperature: examples are correlated, which needs one temperature for "
                "all: use a number or a schedule of time"
            )

    def compare(
        self, student: Tensor, teacher: Tensor, temperature: Temperature, batch: Batch
    ) -> Tensor:
        """Compute the weighted sum of the two relations."""
        inter = functional.inter_class_relation(student, teacher, temperature)
        intra = functional.intra_class_relation(student, teacher, temperature)
        return self.inter_weight * inter + self.intra_weight * intra
