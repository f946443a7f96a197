"""The objective: a weighted sum of named terms, each one a file under ``losses/``."""

from typing import Any

from torch import Tensor, nn

from distill.core.errors import UserError
from distill.modeling.features import ModelOutputs
from distill.objectives.pair import ModelPair
from distill.objectives.schedules import schedule_bounds, value_at
from distill.objectives.terms.base import Term


class Objective(nn.Module):
    r"""Weighted sum of terms, :math:`\sum_k w_k L_k`.

    Parameters that a term trains (projections) are this module's, and so part of the training.

    Args:
        name: what reports call it.
        terms: the terms by the names they are logged under (``train/loss/NAME``).
    """

    def __init__(self, name: str, **terms: Term):
        super().__init__()
        self.name = name
        # objective.hard_labels=null leaves a term out.
        self.given = {key: term for key, term in terms.items() if term is not None}
        for key, term in self.given.items():
            if not isinstance(term, Term):
                raise UserError(f"objective.{key}={term}: it is no term of an objective")
            if hasattr(nn.ModuleDict, key):
                raise UserError(f"objective.{key}: a term cannot have this name, choose another")
        # A term whose weight is 0 all along is left out: it needs nothing and costs nothing.
        self.terms = nn.ModuleDict(
            {key: term for key, term in self.given.items() if max(schedule_bounds(term.weight)) > 0}
        )

    def check(self, path: str = "objective") -> None:
        """Refuse weights that are none.

        Raises:
            UserError: naming the first.
        """
        for key, term in self.given.items():
            term.check_weight(f"{path}.{key}")
        if not self.given:
            raise UserError(f"{path} has no terms: give it one")
        if not self.terms:
            names = ", ".join(f"{path}.{key}.weight" for key in self.given)
            raise UserError(f"the objective's weights sum to nothing: raise one of {names}")

    @property
    def needs(self) -> frozenset[str]:
        """What its terms read of the teacher at any time."""
        return frozenset().union(*(term.needs for term in self.terms.values()))

    @property
    def trains_head(self) -> bool:
        """Whether any term teaches the head; if not, validation cannot tell what is best."""
        return any(term.trains_head for term in self.terms.values())

    @property
    def trains_all(self) -> bool:
        """Whether every step trains every parameter: no term comes, goes or passes the head by."""
        return self.trains_head and not any(callable(term.weight) for term in self.terms.values())

    def bind(self, pair: ModelPair, path: str = "objective") -> "Objective":
        """Tell every term who is paired; returns itself.

        Raises:
            UserError: if a term cannot work for them.
        """
        self.check(path)
        for key, term in self.terms.items():
            term.bind(pair, f"{path}.{key}")
        return self

    def weights(self, progress: float) -> dict[str, float]:
        """The weights of the terms that count when so much of the training is done."""
        weights = {key: value_at(term.weight, progress) for key, term in self.terms.items()}
        return {key: weight for key, weight in weights.items() if weight > 0}

    def scheduled(self, progress: float) -> dict[str, float]:
        """What follows a schedule over time: ``weight/TERM`` and ``temperature/TERM``."""
        return {
            f"{what}/{key}": float(value_at(getattr(term, what), progress))
            for key, term in self.terms.items()
            for what in ("weight", "temperature")
            if callable(value := getattr(term, what, None)) and not value.adaptive
        }

    def needs_now(self, progress: float) -> frozenset[str]:
        """What the terms that count now read of the teacher."""
        return frozenset().union(*(self.terms[key].needs for key in self.weights(progress)))

    def forward(
        self,
        student: ModelOutputs,
        teacher: ModelOutputs | None,
        batch: dict[str, Any],
        progress: float = 0.0,
    ) -> dict[str, Tensor]:
        """Unweighted terms by name and their weighted sum as ``"loss"``.

        Args:
            student: what the student says.
            teacher: what the teacher says; ``None`` where no term asks for it.
            batch: labels and inputs.
            progress: how much of the training is done, from 0 to 1.
        """
        weights, losses = self.weights(progress), {}
        for key in weights:
            term = self.terms[key]
            term.progress = progress
            seen = (
                teacher.for_teacher(term.teacher) if term.needs and teacher is not None else teacher
            )
            losses[key] = term(student, seen, batch)
        if not losses:  # every schedule stands at 0 just now
            return {"loss": student.logits.sum() * 0.0}
        return {"loss": sum(weights[key] * value for key, value in losses.items())} | losses


class Stage:
    """One part of a training: an objective of its own, for so long, at such a learning rate.

    Args:
        epochs: at most so many; ``None``: ``trainer.max_epochs``.
        learning_rate: the highest; ``None``: the optimizer's.
        terms: the objective's.
    """

    def __init__(
        self, epochs: int | None = None, learning_rate: float | None = None, **terms: Term
    ):
        self.name, self.epochs, self.learning_rate = "", epochs, learning_rate
        self.objective = Objective("", **terms)

    def check(self, path: str) -> None:
        """Refuse lengths, rates and weights that are none.

        Raises:
            UserError: naming the first.
        """
        if self.epochs is not None and self.epochs < 1:
            raise UserError(f"{path}.epochs={self.epochs}: it must be 1 or more")
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise UserError(f"{path}.learning_rate={self.learning_rate}: it must be above 0")
        self.objective.check(path)

    @classmethod
    def around(cls, objective: Objective) -> "Stage":
        """The only stage of an objective that has no others."""
        stage = cls(**objective.terms)
        stage.objective = objective
        return stage


class Recipe:
    """Several stages, one after the other, each carrying on from the weights before it.

    TinyBERT (Jiao et al. 2020, section 3.2) is one: first what happens inside, then the
    predictions.

    Args:
        name: what reports call it.
        stages: by name, in their order. The last one is logged under the usual names, those before
            it under their own (``STAGE/train/loss``).
    """

    def __init__(self, name: str, **stages: Stage):
        if not stages:
            raise UserError("the objective has no stages: name at least one")
        for key, stage in stages.items():
            if not isinstance(stage, Stage):
                raise UserError(f"objective.{key} is no stage (distill.objectives.objective.Stage)")
            if key in ("teacher", "control"):
                raise UserError(f"objective.{key}: teacher and control are names of other curves")
            stage.name = key
            stage.check(f"objective.{key}")
        last = list(stages.values())[-1]
        if not last.objective.trains_head:
            raise UserError(
                f"objective.{last.name}: the last stage must teach the head (logits or labels)"
            )
        self.name, self.stages = name, list(stages.values())

    @property
    def needs(self) -> frozenset[str]:
        """What its stages read of the teacher at any time."""
        return frozenset().union(*(stage.objective.needs for stage in self.stages))

    @property
    def terms(self) -> dict[str, Term]:
        """All stages' terms, ``STAGE.TERM``."""
        return {
            f"{stage.name}.{key}": term
            for stage in self.stages
            for key, term in stage.objective.terms.items()
        }

    def bind(self, pair: ModelPair, path: str = "objective") -> "Recipe":
        """Tell every term who is paired; returns itself."""
        for stage in self.stages:
            stage.objective.bind(pair, f"{path}.{stage.name}")
        return self


def training_stages(objective: Objective | Recipe) -> list[Stage]:
    """The stages of a recipe; a plain objective is one stage of the trainer's length.

    Raises:
        UserError: if it does not teach the head.
    """
    if isinstance(objective, Recipe):
        return objective.stages
    objective.check()
    if not objective.trains_head:
        raise UserError(
            "the objective must teach the head: give hard_labels or a term on logits a weight, or "
            "add a stage that does"
        )
    return [Stage.around(objective)]
