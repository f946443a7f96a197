"""Losses on hidden states, layer by layer."""

import logging
from typing import Literal

import torch
from torch import Tensor, nn

from distill.core.errors import UserError
from distill.modeling.features import ModelOutputs
from distill.modeling.needs import Need
from distill.modeling.precision import fp32_matmul
from distill.objectives.functional import hidden_states as functional
from distill.objectives.pair import ModelPair
from distill.objectives.schedules import Schedule
from distill.objectives.terms.base import Batch, Term
from distill.objectives.terms.layer_map import LayerMap, layer_pairs

log = logging.getLogger(__name__)

MEASURES = {
    "mse": functional.hidden_mse,
    "cosine": functional.hidden_cosine,
    "normalized_mse": functional.hidden_normalized_mse,
}
OLD_MEASURES = {"normalised_mse": "normalized_mse"}
"""Earlier spellings, which are still accepted."""


class HiddenStates(Term):
    """Distance between the hidden states of paired layers; padding is ignored.

    Where the widths differ, a linear projection without bias maps the student's width to the
    teacher's, one for each pair (TinyBERT's code shares one). It is trained, clipped, saved and
    resumed with the student and is no part of the saved student.

    Args:
        weight: factor of this term in the objective, a number or a schedule.
        measure: ``mse`` (TinyBERT), ``cosine`` (DistilBERT), ``normalized_mse`` (PKD; formerly
            spelled ``normalised_mse``).
        layers: ``uniform``, ``first``, ``last`` or pairs ``[[student, teacher], ...]``.
        but_last: leave out the student's last layer.
        embeddings: compare the output of the embeddings as well.
        tokens: ``all``, or the ``first`` one only, which needs no equal tokenizers.
        over_layers: ``sum`` or ``mean`` over the pairs.
        teacher: name of the ensemble member to learn from.
        stack: stack of layers to compare where the models have several (``encoder``, ``decoder``).
    """

    needs = frozenset({Need.HIDDEN_STATES})

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        measure: Literal["mse", "cosine", "normalized_mse"] = "mse",
        layers: LayerMap = "uniform",
        but_last: bool = False,
        embeddings: bool = False,
        tokens: Literal["all", "first"] = "all",
        over_layers: Literal["sum", "mean"] = "sum",
        teacher: str | None = None,
        stack: str | None = None,
    ):
        super().__init__(weight, teacher)
        self.stack = stack
        if measure in OLD_MEASURES:
            log.warning("measure=%s is now called %s", measure, OLD_MEASURES[measure])
        self.measure = OLD_MEASURES.get(measure, measure)
        self.layers, self.but_last = layers, but_last
        self.embeddings, self.tokens, self.over_layers = embeddings, tokens, over_layers
        self.compares_tokens = tokens == "all"
        # Indices into hidden_states, where the embeddings' output comes first.
        self.pairs: list[tuple[int, int]] = []
        self.projections = nn.ModuleList()

    def bind(self, pair: ModelPair, path: str) -> None:
        """Resolve the layers, and create projections where the widths differ."""
        self._check_options(path)
        if self.tokens == "first" and pair.task.token_level:
            raise UserError(
                f"{path} compares the first token, which no head of task={pair.task.name} reads: "
                f"set {path}.tokens=all"
            )
        student, teacher = self.shapes(pair, path)
        if not student.layers:
            raise UserError(f"{path} compares hidden states, and the student has no layers")
        if self.embeddings and not student.heads:
            raise UserError(f"{path}.embeddings=true: the student is no transformer, set it false")
        chosen = layer_pairs(
            self.layers, student.layers, teacher.layers, f"{path}.layers", self.but_last
        )
        self.pairs = [(0, 0)] * self.embeddings + [(a + 1, b + 1) for a, b in chosen]
        if student.width != teacher.width:
            self.projections = nn.ModuleList(
                nn.Linear(student.width, teacher.width, bias=False) for _ in self.pairs
            )

    def _check_options(self, path: str) -> None:
        for option, choices in (
            ("measure", tuple(MEASURES)), ("tokens", ("all", "first")),
            ("over_layers", ("sum", "mean")),
        ):  # fmt: skip
            if getattr(self, option) not in choices:
                raise UserError(
                    f"{path}.{option}={getattr(self, option)}: choose {' or '.join(choices)}"
                )

    def forward(self, student: ModelOutputs, teacher: ModelOutputs | None, batch: Batch) -> Tensor:
        """Compute the loss from hidden states ``(N, L, D)`` per layer, a scalar."""
        assert teacher is not None
        all_student_states = student.states_of(self.stack)
        all_teacher_states = teacher.states_of(self.stack)
        losses = []
        for index, (student_layer, teacher_layer) in enumerate(self.pairs):
            student_states = all_student_states[student_layer]
            teacher_states = all_teacher_states[teacher_layer]
            mask = student.mask
            if mask is None:  # patches of an image
                mask = torch.ones(student_states.shape[:2], device=student_states.device)
            if self.tokens == "first":
                student_states, teacher_states = student_states[:, :1], teacher_states[:, :1]
                mask = torch.ones_like(mask[:, :1])
            if len(self.projections):
                projection = self.projections[index]
                assert isinstance(projection, nn.Linear)
                student_states = fp32_matmul(student_states, projection.weight.T)
            losses.append(MEASURES[self.measure](student_states, teacher_states, mask))
        total = torch.stack(losses).sum()
        return total / len(losses) if self.over_layers == "mean" else total
