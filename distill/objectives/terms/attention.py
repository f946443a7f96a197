"""Attention: scores and maps head by head, and relations of queries, keys and values.

All of it is captured from the layers' own projections (:mod:`distill.modeling.features`), whatever kernel
computes the attention itself, and only for the layers compared.
"""

import logging
import math
from abc import abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor

from distill.core.errors import UserError
from distill.modeling.features import ModelOutputs
from distill.modeling.shape import ModelShape
from distill.objectives.functional import attention as functional
from distill.objectives.pair import ModelPair
from distill.objectives.schedules import Schedule
from distill.objectives.terms.base import Term
from distill.objectives.terms.layer_map import LayerMap, layer_pairs

log = logging.getLogger(__name__)


class _AttentionTerm(Term):
    needs = frozenset({"attention"})
    per_token = True

    def bind(self, pair: ModelPair, path: str) -> None:
        """Find the layers."""
        student, teacher = self.shapes(pair, path)
        for shape, who in ((student, "student"), (teacher, "teacher")):
            if not shape.heads:
                raise UserError(f"{path} compares attention, and the {who} has none")
        self.pairs = layer_pairs(self.layers, student.layers, teacher.layers, f"{path}.layers")
        self._check_heads(student, teacher, path)

    def _check_heads(self, student: ModelShape, teacher: ModelShape, path: str) -> None:
        if student.heads != teacher.heads:
            raise UserError(
                f"{path} compares head by head, but the student has {student.heads} and the "
                f"teacher {teacher.heads}: use relations instead (objective=minilmv2)"
            )


class _HeadByHead(_AttentionTerm):
    def forward(
        self, student: ModelOutputs, teacher: ModelOutputs, batch: dict[str, Any]
    ) -> Tensor:
        """Attention of both -> scalar, summed over layers."""
        return torch.stack(
            [
                self.compare(
                    student.attention[own].scores, teacher.attention[other].scores, student.mask
                )
                for own, other in self.pairs
            ]
        ).sum()

    @abstractmethod
    def compare(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        """Scores before the softmax, ``(N, H, L, L)`` twice, and the mask ``(N, L)`` -> scalar."""


class AttentionScores(_HeadByHead):
    """Squared error of the scores before the softmax (Jiao et al. 2020, TinyBERT, eq. 7).

    Args:
        weight: factor of this term in the objective, a number or a schedule.
        layers: ``uniform``, ``first``, ``last`` or pairs ``[[student, teacher], ...]``.
        teacher: of an ensemble, the member it looks at.
    """

    compare = staticmethod(functional.attention_scores_mse)

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        layers: LayerMap = "uniform",
        teacher: str | None = None,
    ):
        super().__init__(weight, teacher)
        self.layers = layers


class AttentionMaps(_HeadByHead):
    """Divergence of the attention maps (Wang et al. 2020, MiniLM, eq. 6).

    Args:
        weight: factor of this term in the objective, a number or a schedule.
        layers: ``uniform``, ``first``, ``last`` or pairs; by default the last layers, as MiniLM.
        teacher: of an ensemble, the member it looks at.
    """

    compare = staticmethod(functional.attention_kl)

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        layers: LayerMap = ((-1, -1),),
        teacher: str | None = None,
    ):
        super().__init__(weight, teacher)
        self.layers = layers


class Relations(_AttentionTerm):
    """Relations of queries, keys or values among themselves (MiniLM's values, MiniLMv2's all).

    Args:
        weight: factor of this term in the objective, a number or a schedule.
        of: any of ``queries``, ``keys``, ``values``; their losses are added.
        heads: relation heads: ``own``, the teacher's (MiniLM); ``fine``, four times as many
            (MiniLMv2 has 48 for 12), as far as both widths can be cut so; or a number.
        layers: pairs ``[[student, teacher], ...]``, or ``uniform``, ``first``, ``last``. By
            default the last layers; for deep teachers MiniLMv2 takes an upper-middle one.
        teacher: of an ensemble, the member it looks at.
    """

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        of: list[str] = ("queries", "keys", "values"),
        heads: int | Literal["own", "fine"] = "fine",
        layers: LayerMap = ((-1, -1),),
        teacher: str | None = None,
    ):
        super().__init__(weight, teacher)
        self.of, self.heads, self.layers = of, heads, layers

    def _check_heads(self, student: ModelShape, teacher: ModelShape, path: str) -> None:
        known = ("queries", "keys", "values")
        if not self.of or not set(self.of) <= set(known) or len(set(self.of)) < len(self.of):
            raise UserError(
                f"{path}.of={list(self.of)}: choose among {', '.join(known)}, each once"
            )
        if self.heads == "fine":
            self.relation_heads = math.gcd(
                4 * teacher.heads, student.attention_width, teacher.attention_width
            )
            log.info("%s: %d relation heads", path, self.relation_heads)
            return
        self.relation_heads = teacher.heads if self.heads == "own" else self.heads
        widths = student.attention_width, teacher.attention_width
        whole = isinstance(self.relation_heads, int) and self.relation_heads > 0
        if not whole or any(width % self.relation_heads for width in widths):
            raise UserError(
                f"{path}.heads={self.heads}: {self.relation_heads} does not divide the widths of "
                f"student ({widths[0]}) and teacher ({widths[1]})"
            )

    def forward(
        self, student: ModelOutputs, teacher: ModelOutputs, batch: dict[str, Any]
    ) -> Tensor:
        """Attention of both -> scalar, summed over layers."""
        mask = student.mask
        return torch.stack(
            [
                functional.relation_kl(
                    getattr(student.attention[own], kind),
                    getattr(teacher.attention[other], kind),
                    mask,
                    self.relation_heads,
                )
                for own, other in self.pairs
                for kind in self.of
            ]
        ).sum()
