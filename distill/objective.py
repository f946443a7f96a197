"""The objective: a weighted sum of named terms, each one a file under ``losses/``."""

import math
from typing import Any, Protocol

from torch import Tensor

from distill.errors import UserError


class Term(Protocol):
    """What a term looks like. A term that trains parameters of its own is an ``nn.Module`` too.

    Attributes:
        weight: factor in the sum; at 0 the term is not computed at all.
        needs: what it reads of the teacher: any of ``logits``, ``hidden_states``, ``attentions``.
            Empty: it works without a teacher. Anything beyond ``logits`` runs the teacher live.
    """

    weight: float
    needs: frozenset[str]

    def __call__(self, student: Any, teacher: Any, batch: dict[str, Tensor]) -> Tensor:
        """Both models' outputs and the batch -> scalar, not yet weighted."""


class Objective:
    r"""Weighted sum of terms, :math:`\sum_k w_k L_k`.

    Args:
        name: what reports call it.
        terms: the terms by the names they are logged under (``train/loss/NAME``).

    Raises:
        UserError: if a weight is negative or not finite, or all weights are 0.
    """

    def __init__(self, name: str, **terms: Term):
        for key, term in terms.items():
            if not (term.weight >= 0 and math.isfinite(term.weight)):
                raise UserError(f"objective.{key}.weight={term.weight}: it must be 0 or above")
        self.name = name
        self.terms = {key: term for key, term in terms.items() if term.weight > 0}
        if not self.terms:
            names = ", ".join(f"objective.{key}.weight" for key in terms) or "no term is given"
            raise UserError(f"the objective's weights sum to nothing: raise one of {names}")
        self.needs = frozenset().union(*(term.needs for term in self.terms.values()))

    def bind(self, task) -> "Objective":
        """Give the terms that ask for it (``bind``) the task; returns itself."""
        for term in self.terms.values():
            if hasattr(term, "bind"):
                term.bind(task)
        return self

    def __call__(self, student, teacher, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Unweighted terms by name and their weighted sum as ``"loss"``."""
        losses = {key: term(student, teacher, batch) for key, term in self.terms.items()}
        total = sum(self.terms[key].weight * value for key, value in losses.items())
        return {"loss": total} | losses
