"""Losses on self-attention: scores and maps head by head, and relations of queries, keys, values.

Queries, keys and values are captured from the layers' own projections
(:mod:`distill.modeling.features`), whatever kernel computes the attention, and scores are computed
only for the layers compared.
"""

import logging
import math
from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor

from distill.core.errors import UserError
from distill.modeling.features import AttentionStates, ModelOutputs
from distill.modeling.needs import Need
from distill.modeling.shape import ModelShape
from distill.objectives.functional import attention as functional
from distill.objectives.pair import ModelPair
from distill.objectives.schedules import Schedule
from distill.objectives.terms.base import Batch, Term
from distill.objectives.terms.layer_map import LAST_LAYERS, LayerMap, layer_pairs

log = logging.getLogger(__name__)

RELATION_KINDS = ["queries", "keys", "values"]


class AttentionTerm(Term):
    """Base class of losses on the attention of paired layers, summed over the pairs.

    Args:
        weight: factor of this term in the objective, a number or a schedule.
        layers: ``uniform``, ``first``, ``last`` or pairs ``[[student, teacher], ...]``.
        teacher: name of the ensemble member to learn from.
    """

    needs = frozenset({Need.ATTENTION})
    compares_tokens = True

    def __init__(self, weight: float | Schedule, layers: LayerMap, teacher: str | None):
        super().__init__(weight, teacher)
        self.layers = layers
        self.pairs: list[tuple[int, int]] = []

    def bind(self, pair: ModelPair, path: str) -> None:
        """Resolve the layers and validate the numbers of heads."""
        student, teacher = self.shapes(pair, path)
        for shape, role in ((student, "student"), (teacher, "teacher")):
            if not shape.heads:
                raise UserError(
                    f"{path} compares attention, and the {role} has none: use an objective on "
                    "logits"
                )
        self.pairs = layer_pairs(self.layers, student.layers, teacher.layers, f"{path}.layers")
        self._check_heads(student, teacher, path)

    def _check_heads(self, student: ModelShape, teacher: ModelShape, path: str) -> None:
        if student.heads != teacher.heads:
            raise UserError(
                f"{path} compares head by head, but the student has {student.heads} and the "
                f"teacher {teacher.heads}: use relations instead (objective=minilmv2)"
            )

    def forward(self, student: ModelOutputs, teacher: ModelOutputs | None, batch: Batch) -> Tensor:
        """Compute the loss from the attention of both models, a scalar."""
        assert teacher is not None and teacher.attention is not None
        assert student.attention is not None
        mask = student.mask
        if mask is None:  # patches of an image
            queries = student.attention[0].queries
            mask = torch.ones(queries.shape[0], queries.shape[2], device=queries.device)
        losses = [
            loss
            for student_layer, teacher_layer in self.pairs
            for loss in self.layer_losses(
                student.attention[student_layer], teacher.attention[teacher_layer], mask
            )
        ]
        return torch.stack(losses).sum()

    @abstractmethod
    def layer_losses(
        self, student: AttentionStates, teacher: AttentionStates, mask: Tensor
    ) -> list[Tensor]:
        """Compute the losses of one pair of layers, scalars; ``mask`` is ``(N, L)``."""


class AttentionScores(AttentionTerm):
    """Squared error of the scores before the softmax (Jiao et al. 2020, TinyBERT, eq. 7).

    Args:
        weight: factor of this term in the objective, a number or a schedule.
        layers: ``uniform``, ``first``, ``last`` or pairs ``[[student, teacher], ...]``.
        teacher: name of the ensemble member to learn from.
    """

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        layers: LayerMap = "uniform",
        teacher: str | None = None,
    ):
        super().__init__(weight, layers, teacher)

    def layer_losses(
        self, student: AttentionStates, teacher: AttentionStates, mask: Tensor
    ) -> list[Tensor]:
        """Compare the scores ``(N, H, L, L)``."""
        return [functional.attention_scores_mse(student.scores, teacher.scores, mask)]


class AttentionMaps(AttentionTerm):
    """Divergence of the attention maps (Wang et al. 2020, MiniLM, eq. 6).

    Args:
        weight: factor of this term in the objective, a number or a schedule.
        layers: ``uniform``, ``first``, ``last`` or pairs; by default the last layers, as MiniLM.
        teacher: name of the ensemble member to learn from.
    """

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        layers: LayerMap = LAST_LAYERS,
        teacher: str | None = None,
    ):
        super().__init__(weight, layers, teacher)

    def layer_losses(
        self, student: AttentionStates, teacher: AttentionStates, mask: Tensor
    ) -> list[Tensor]:
        """Compare the maps, computed from scores ``(N, H, L, L)``."""
        return [functional.attention_kl(student.scores, teacher.scores, mask)]


class AttentionRelations(AttentionTerm):
    """Divergence of the relations of queries, keys or values among themselves.

    Values with the teacher's own number of heads are MiniLM's value relation (Wang et al. 2020, eq.
    8), all three with more heads are MiniLMv2 (Wang et al. 2021, eq. 4 to 6).

    Args:
        weight: factor of this term in the objective, a number or a schedule.
        of: any of ``queries``, ``keys``, ``values``; their losses are added.
        heads: number of relation heads: ``own``, the teacher's (MiniLM); ``fine``, four times as
            many (MiniLMv2 has 48 for 12), as far as both widths can be divided so; or a number.
        layers: pairs ``[[student, teacher], ...]``, or ``uniform``, ``first``, ``last``. By
            default the last layers; for deep teachers MiniLMv2 takes an upper-middle one.
        teacher: name of the ensemble member to learn from.
    """

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        of: list[str] = RELATION_KINDS,
        heads: int | Literal["own", "fine"] = "fine",
        layers: LayerMap = LAST_LAYERS,
        teacher: str | None = None,
    ):
        super().__init__(weight, layers, teacher)
        self.of, self.heads = of, heads
        self.relation_heads = 0

    def _check_heads(self, student: ModelShape, teacher: ModelShape, path: str) -> None:
        kinds = set(self.of)
        if not kinds or not kinds <= set(RELATION_KINDS) or len(kinds) < len(self.of):
            raise UserError(
                f"{path}.of={list(self.of)}: choose among {', '.join(RELATION_KINDS)}, each once"
            )
        widths = student.attention_width, teacher.attention_width
        if self.heads == "fine":
            self.relation_heads = math.gcd(4 * teacher.heads, *widths)
            log.info("%s: %d relation heads", path, self.relation_heads)
            return
        heads = teacher.heads if self.heads == "own" else self.heads
        valid = isinstance(heads, int) and heads > 0
        if not valid or any(width % heads for width in widths):
            raise UserError(
                f"{path}.heads={self.heads}: {heads} does not divide the widths of "
                f"student ({widths[0]}) and teacher ({widths[1]})"
            )
        self.relation_heads = heads

    def layer_losses(
        self, student: AttentionStates, teacher: AttentionStates, mask: Tensor
    ) -> list[Tensor]:
        """Compare the relations of each kind, ``(N, H, L, d)``."""
        return [
            functional.relation_kl(
                getattr(student, kind), getattr(teacher, kind), mask, self.relation_heads
            )
            for kind in self.of
        ]
