"""Soft labels: the teacher's whole distribution over the classes."""

from torch import Tensor

from distill.errors import UserError
from distill.functional import soft_target_kl


class SoftTargets:
    """KL divergence to the teacher's softened distribution, scaled by T^2 (Hinton et al. 2015).

    Args:
        weight: factor of this term in the objective.
        temperature: T > 0; higher shows the student more of what the teacher thinks of the
            classes it did not choose.

    Raises:
        UserError: if the temperature is not positive.
    """

    needs = frozenset({"logits"})

    def __init__(self, weight: float = 0.5, temperature: float = 2.0):
        if not temperature > 0:
            raise UserError(f"objective.soft_targets.temperature={temperature}: it must be above 0")
        self.weight, self.temperature = weight, temperature

    def __call__(self, student, teacher, batch: dict[str, Tensor]) -> Tensor:
        """Student and teacher outputs with ``logits`` ``(N, C)`` -> scalar."""
        return soft_target_kl(student.logits, teacher.logits, self.temperature)
