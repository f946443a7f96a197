"""Losses on relations between the examples of a batch, from one vector per example.

They need neither equal widths nor equal tokenizers. The relations are those within one batch: with
gradient accumulation or several processes each part is compared on its own.
"""

from abc import abstractmethod
from typing import Literal, get_args

import torch
from torch import Tensor

from distill.core.errors import UserError
from distill.modeling.features import ModelOutputs
from distill.modeling.needs import Need
from distill.objectives.functional import feature_maps as of_maps
from distill.objectives.functional import relations as functional
from distill.objectives.pair import ModelPair
from distill.objectives.schedules import Schedule
from distill.objectives.terms.base import Batch, Term

Vector = Literal["first", "mean", "logits", "pooled", "map"]
_NEEDS = {
    "logits": Need.LOGITS, "pooled": Need.FEATURE_MAPS, "map": Need.FEATURE_MAPS,
}  # fmt: skip


class RelationTerm(Term):
    """Base class of losses on relations between examples.

    Args:
        weight: factor of this term in the objective, a number or a schedule.
        vector: ``first``, the first token's last hidden state; ``mean`` over the tokens;
            ``logits``; of convolutional networks ``pooled``, the mean of the last feature map, or
            ``map``, all of it.
        teacher: name of the ensemble member to learn from.
    """

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        vector: Vector = "first",
        teacher: str | None = None,
    ):
        super().__init__(weight, teacher)
        self.vector = vector
        self.needs = frozenset({_NEEDS.get(vector, Need.HIDDEN_STATES)})
        self.trains_head = vector == "logits"

    def bind(self, pair: ModelPair, path: str) -> None:
        """Validate the choice of vectors."""
        if self.vector not in get_args(Vector):
            raise UserError(
                f"{path}.vector={self.vector}: choose first, mean or logits, of convolutional "
                "networks pooled or map"
            )
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
        if self.vector in ("pooled", "map"):
            student, teacher = self.shapes(pair, path)
            if not (student.feature_maps and teacher.feature_maps):
                raise UserError(
                    f"{path}.vector={self.vector} is of feature maps, and one of the models is no "
                    f"convolutional network: set {path}.vector=logits"
                )
        elif self.vector != "logits":
            student, teacher = self.shapes(pair, path)
            if student.convolutional or teacher.convolutional:
                raise UserError(
                    f"{path}.vector={self.vector} is of tokens, which a convolutional network has "
                    f"not: set {path}.vector=pooled or logits"
                )
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
        if self.vector in ("pooled", "map"):
            *_, last = outputs.feature_maps.values()
            return last.float().mean((2, 3)) if self.vector == "pooled" else last.float().flatten(1)
        assert outputs.hidden_states is not None
        last = outputs.hidden_states[-1].float()
        if self.vector == "first":
            return last[:, 0]
        if outputs.mask is None:
            return last.mean(1)
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
        vector: ``first``, the first token's last hidden state; ``mean`` over the tokens;
            ``logits``; of convolutional networks ``pooled``, the mean of the last feature map, or
            ``map``, all of it.
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
        vector: ``first``, the first token's last hidden state; ``mean`` over the tokens;
            ``logits``; of convolutional networks ``pooled``, the mean of the last feature map, or
            ``map``, all of it.
        teacher: name of the ensemble member to learn from.
    """

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare the angles of all triples of examples."""
        return functional.rkd_angle(student, teacher)


class SimilarityPreserving(RelationTerm):
    """Similarities between examples (Tung and Mori 2019; the paper's weight is 3000).

    Args:
        weight: factor of this term in the objective, a number or a schedule.
        vector: ``first``, the first token's last hidden state; ``mean`` over the tokens;
            ``logits``; of convolutional networks ``pooled``, the mean of the last feature map, or
            ``map``, all of it.
        teacher: name of the ensemble member to learn from.
    """

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare the similarity matrices of the batch."""
        return functional.similarity_preserving(student, teacher)


class ProbabilisticTransfer(RelationTerm):
    """Whom examples are near to (Passalis and Tefas 2018, PKT).

    RepDistiller's weight is 30,000 beside the cross-entropy of classification: the loss is a mean
    over all pairs.

    Args:
        weight: factor of this term in the objective, a number or a schedule.
        vector: ``first``, the first token's last hidden state; ``mean`` over the tokens;
            ``logits``; of convolutional networks ``pooled``, the mean of the last feature map, or
            ``map``, all of it.
        teacher: name of the ensemble member to learn from.
    """

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare the neighborhoods of the examples."""
        return of_maps.probabilistic_knowledge_transfer(student, teacher)
