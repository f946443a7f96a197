"""Losses on relations between the examples of a batch, from one vector per example.

They need neither equal widths nor equal tokenizers. The relations are those within one batch: with
gradient accumulation or several processes each part is compared on its own.
"""

from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor

from distill.core.errors import UserError
from distill.modeling.features import ModelOutputs
from distill.modeling.needs import Need
from distill.objectives.functional import relations as functional
from distill.objectives.pair import ModelPair
from distill.objectives.schedules import Schedule
from distill.objectives.terms.base import Batch, Term


class RelationTerm(Term):
    """Base class of losses on relations between examples.

    Args:
        weight: factor of this term in the objective, a number or a schedule.
        vector: ``first``, the first token's last hidden state; ``mean`` over the tokens; or
            ``logits``.
        teacher: name of the ensemble member to learn from.
    """

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        vector: Literal["first", "mean", "logits"] = "first",
        teacher: str | None = None,
    ):
        super().__init__(weight, teacher)
        self.vector = vector
        self.needs = frozenset({Need.LOGITS if vector == "logits" else Need.HIDDEN_STATES})
        self.trains_head = vector == "logits"

    def bind(self, pair: ModelPair, path: str) -> None:
        """Validate the choice of vectors."""
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

    def forward(self, student: ModelOutputs, teacher: ModelOutputs | None, batch: Batch) -> Tensor:
        """Compute the loss from ``logits`` or ``hidden_states`` of both models, a scalar."""
        assert teacher is not None
        return self.compare(self._vectors(student), self._vectors(teacher))

    def _vectors(self, outputs: ModelOutputs) -> Tensor:
        """Return one vector per example, ``(N, D)``."""
        if self.vector == "logits":
            # A class that the model rules out is no coordinate.
            return outputs.logits.masked_fill(outputs.logits == -torch.inf, 0.0)
        assert outputs.hidden_states is not None
        last = outputs.hidden_states[-1].float()
        if self.vector == "first":
            return last[:, 0]
        assert outputs.mask is not None
        mask = outputs.mask.to(last.dtype)[..., None]
        return (last * mask).sum(1) / mask.sum(1).clamp(min=1)

    @abstractmethod
    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compute the loss from one vector per example, ``(N, D)`` and ``(N, D')``, a scalar."""


class RKDDistance(RelationTerm):
    """Distances between examples (Park et al. 2019, RKD).

    The paper's weight is 1 for metric learning (section 4.1) and 25 beside the cross-entropy of
    classification (section 4.2).

    Args:
        weight: factor of this term in the objective, a number or a schedule.
        vector: ``first``, the first token's last hidden state; ``mean`` over the tokens; or
            ``logits``.
        teacher: name of the ensemble member to learn from.
    """

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare the distances between all pairs of examples."""
        return functional.rkd_distance(student, teacher)


class RKDAngle(RelationTerm):
    """Angles between triples of examples (Park et al. 2019, RKD).

    The paper's weight is 2 for metric learning (section 4.1) and 50 beside the cross-entropy of
    classification (section 4.2).

    Args:
        weight: factor of this term in the objective, a number or a schedule.
        vector: ``first``, the first token's last hidden state; ``mean`` over the tokens; or
            ``logits``.
        teacher: name of the ensemble member to learn from.
    """

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare the angles of all triples of examples."""
        return functional.rkd_angle(student, teacher)


class SimilarityPreserving(RelationTerm):
    """Similarities between examples (Tung and Mori 2019; the paper's weight is 3000).

    Args:
        weight: factor of this term in the objective, a number or a schedule.
        vector: ``first``, the first token's last hidden state; ``mean`` over the tokens; or
            ``logits``.
        teacher: name of the ensemble member to learn from.
    """

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare the similarity matrices of the batch."""
        return functional.similarity_preserving(student, teacher)
