"""Hidden states: what stands between the layers."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from distill.core.errors import UserError
from distill.modeling.features import ModelOutputs
from distill.objectives.functional import hidden_states as functional
from distill.objectives.functional.precision import fp32_matmul
from distill.objectives.pair import ModelPair
from distill.objectives.schedules import Schedule
from distill.objectives.terms.base import Term
from distill.objectives.terms.layer_map import LayerMap, layer_pairs

MEASURES = {
    "mse": functional.hidden_mse,
    "cosine": functional.hidden_cosine,
    "normalised_mse": functional.hidden_normalized_mse,
}


class HiddenStates(Term):
    """Makes hidden states alike, layer by layer; padding never counts.

    Where the widths differ, a linear projection without bias leads from the student's width to the
    teacher's, one for each pair (TinyBERT's code shares one). It is trained, clipped, saved and
    resumed with the student and is no part of the saved student.

    Args:
        weight: factor of this term in the objective, a number or a schedule.
        measure: ``mse`` (TinyBERT), ``cosine`` (DistilBERT), ``normalised_mse`` (PKD).
        layers: ``uniform``, ``first``, ``last`` or pairs ``[[student, teacher], ...]``.
        but_last: leave out the student's last layer.
        embeddings: compare the output of the embeddings as well.
        tokens: ``all``, or the ``first`` one only (which needs no equal tokenizers).
        over_layers: ``sum`` or ``mean`` of the pairs.
        teacher: of an ensemble, the member it looks at.
    """

    needs = frozenset({"hidden_states"})

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        measure: Literal["mse", "cosine", "normalised_mse"] = "mse",
        layers: LayerMap = "uniform",
        but_last: bool = False,
        embeddings: bool = False,
        tokens: Literal["all", "first"] = "all",
        over_layers: Literal["sum", "mean"] = "sum",
        teacher: str | None = None,
    ):
        super().__init__(weight, teacher)
        self.measure, self.layers, self.but_last = measure, layers, but_last
        self.embeddings, self.tokens, self.over_layers = embeddings, tokens, over_layers
        self.per_token = tokens == "all"
        # Of hidden_states, where the embeddings' output comes first.
        self.pairs: list[tuple[int, int]] = []
        self.projections = nn.ModuleList()

    def bind(self, pair: ModelPair, path: str) -> None:
        """Find the layers, and make projections where the widths differ."""
        for option, known in (
            ("measure", tuple(MEASURES)), ("tokens", ("all", "first")),
            ("over_layers", ("sum", "mean")),
        ):  # fmt: skip
            if getattr(self, option) not in known:
                raise UserError(
                    f"{path}.{option}={getattr(self, option)}: choose {' or '.join(known)}"
                )
        if self.tokens == "first" and pair.task.token_level:
            raise UserError(
                f"{path} compares the first token, which no head of task={pair.task.name} reads: "
                f"set {path}.tokens=all"
            )
        student, teacher = self.shapes(pair, path)
        if not student.layers:
            raise UserError(f"{path} compares hidden states, and the student has no layers")
        if self.embeddings and not student.heads:
            raise UserError(f"{path}.embeddings=true: the student is no transformer")
        chosen = layer_pairs(
            self.layers, student.layers, teacher.layers, f"{path}.layers", self.but_last
        )
        self.pairs = [(0, 0)] * self.embeddings + [(a + 1, b + 1) for a, b in chosen]
        if student.width != teacher.width:
            self.projections = nn.ModuleList(
                nn.Linear(student.width, teacher.width, bias=False) for _ in self.pairs
            )

    def forward(
        self, student: ModelOutputs, teacher: ModelOutputs, batch: dict[str, Any]
    ) -> Tensor:
        """Hidden states ``(N, L, D)`` a layer  -> scalar."""
        mask = student.mask
        losses = []
        for index, (own, other) in enumerate(self.pairs):
            mine, theirs = student.hidden_states[own], teacher.hidden_states[other]
            seen = mask
            if self.tokens == "first":
                mine, theirs, seen = mine[:, :1], theirs[:, :1], torch.ones_like(mask[:, :1])
            if len(self.projections):
                mine = fp32_matmul(mine, self.projections[index].weight.T)
            losses.append(MEASURES[self.measure](mine, theirs, seen))
        total = torch.stack(losses).sum()
        return total / len(losses) if self.over_layers == "mean" else total
