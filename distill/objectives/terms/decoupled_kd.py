"""Decoupled knowledge distillation (DKD)."""

from torch import Tensor

from distill.objectives.functional import decoupled_kd as functional
from distill.objectives.functional.reduction import Temperature
from distill.objectives.pair import ModelPair
from distill.objectives.schedules import Schedule
from distill.objectives.terms.base import Batch
from distill.objectives.terms.logit_term import LogitTerm, check_part_weights


class DecoupledKD(LogitTerm):
    """Target class and non-target classes weighted separately (Zhao et al. 2022, DKD).

    The target is the example's label, or the teacher's prediction for an example without one.

    Args:
        weight: factor of this term in the objective, a number or a schedule; the paper raises it
            from 0 over the first epochs, which is a linear schedule.
        temperature: T > 0, a number or a schedule.
        target_weight: weight of the target's probability against all others, the paper's alpha.
        non_target_weight: weight of the distribution over the others, the paper's beta.
        standardize: see :class:`LogitTerm`.
        teacher: name of the ensemble member to learn from; ``None``: the whole ensemble.
    """

    least_classes = 3

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        temperature: float | Schedule = 4.0,
        target_weight: float = 1.0,
        non_target_weight: float = 8.0,
        standardize: bool = False,
        teacher: str | None = None,
    ):
        super().__init__(weight, temperature, standardize, teacher)
        self.target_weight, self.non_target_weight = target_weight, non_target_weight

    def bind(self, pair: ModelPair, path: str) -> None:
        """Validate the weights as well."""
        super().bind(pair, path)
        check_part_weights(self, ("target_weight", "non_target_weight"), path)

    def compare(
        self, student: Tensor, teacher: Tensor, temperature: Temperature, batch: Batch
    ) -> Tensor:
        """Compute :func:`.decoupled_kd` with ``batch["labels"]`` ``(N,)``."""
        labels = batch["labels"]
        target = labels.where(labels >= 0, teacher.argmax(-1))
        return functional.decoupled_kd(
            student, teacher, target, temperature, self.target_weight, self.non_target_weight
        )
