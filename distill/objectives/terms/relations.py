"""Relations between the examples of a batch, from one vector an example.

They need no equal widths and no equal tokenizers. A batch is compared as it stands: with gradient
accumulation or several processes each part is compared by itself.
"""

from abc import abstractmethod
from typing import Any, Literal

from torch import Tensor

from distill.core.errors import UserError
from distill.modeling.features import ModelOutputs
from distill.objectives.functional import relations as functional
from distill.objectives.pair import ModelPair
from distill.objectives.schedules import Schedule
from distill.objectives.terms.base import Term


class _RelationTerm(Term):
    """Compares vectors of the last layer.

    Args:
        weight: factor of this term in the objective, a number or a schedule.
        vector: ``first``, the first token's hidden state; ``mean`` over the tokens; or ``logits``.
        teacher: of an ensemble, the member it looks at.
    """

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        vector: Literal["first", "mean", "logits"] = "first",
        teacher: str | None = None,
    ):
        super().__init__(weight, teacher)
        self.vector = vector
        self.needs = frozenset({"logits" if vector == "logits" else "hidden_states"})
        self.trains_head = vector == "logits"

    def bind(self, pair: ModelPair, path: str) -> None:
        """Check the choice."""
        if self.vector not in ("first", "mean", "logits"):
            raise UserError(f"{path}.vector={self.vector}: choose first, mean or logits")
        self.check_teacher(pair, path)
        if self.vector == "first" and pair.task.token_level:
            raise UserError(
                f"{path} compares the first token, which no head of task={pair.task.name} reads: "
                f"set {path}.vector=mean or logits"
            )
        if self.vector == "logits" and pair.task.criterion.distribution == "spans":
            raise UserError(
                f"{path}.vector=logits has no form for {pair.task.name}: texts have different "
                f"numbers of positions, set {path}.vector=mean"
            )
        if self.vector != "logits":
            student, _ = self.shapes(pair, path)
            if self.vector == "first" and not student.layers:
                raise UserError(f"{path}.vector=first: the student has no layers, use mean")

    def forward(
        self, student: ModelOutputs, teacher: ModelOutputs, batch: dict[str, Any]
    ) -> Tensor:
        """Outputs with ``logits`` or ``hidden_states`` -> scalar."""
        return self.compare(self._vectors(student), self._vectors(teacher))

    def _vectors(self, outputs: ModelOutputs) -> Tensor:
        if self.vector == "logits":
            return outputs.logits
        last = outputs.hidden_states[-1].float()
        if self.vector == "first":
            return last[:, 0]
        counted = outputs.mask.to(last.dtype)[..., None]
        return (last * counted).sum(1) / counted.sum(1).clamp(min=1)

    @abstractmethod
    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """One vector an example, ``(N, D)`` and ``(N, D')`` -> scalar."""


class DistanceRelations(_RelationTerm):
    """RKD's distances (Park et al. 2019). Arguments as for all relations."""

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """One vector an example -> scalar."""
        return functional.rkd_distance(student, teacher)


class AngleRelations(_RelationTerm):
    """RKD's angles (Park et al. 2019). Arguments as for all relations."""

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """One vector an example -> scalar."""
        return functional.rkd_angle(student, teacher)


class SimilarityPreserving(_RelationTerm):
    """Similarities of the batch (Tung and Mori 2019). Arguments as for all relations."""

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """One vector an example -> scalar."""
        return functional.similarity_preserving(student, teacher)
