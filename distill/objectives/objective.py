"""Objectives: weighted sums of loss terms, and recipes of several objectives one after another."""

import re
from collections.abc import Iterable
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from distill.core.errors import UserError
from distill.modeling.features import ModelOutputs
from distill.modeling.needs import Need, as_needs
from distill.objectives.functional.row_chunks import weighted_row_losses
from distill.objectives.pair import ModelPair
from distill.objectives.schedules import Schedule, schedule_bounds, value_at
from distill.objectives.terms.base import Batch, Term

DECAYS = ("linear", "cosine", "constant")


class Objective(nn.Module):
    r"""Weighted sum of terms, :math:`\sum_k w_k L_k`.

    Parameters of the terms (projections) belong to this module and are trained with the student.

    Args:
        name: name of the objective in reports.
        terms: terms by the name they are logged under (``train/loss/NAME``). ``None`` leaves a term
            of a preset out (``objective.hard_labels=null``).

    Attributes:
        terms: the terms whose weight is above 0 at any time of the training.
    """

    def __init__(self, name: str, **terms: Term | None):
        super().__init__()
        self.name = name
        self.configured: dict[str, Term] = {}
        for key, term in terms.items():
            if term is None:
                continue
            if not isinstance(term, Term):
                raise UserError(f"objective.{key}={term}: it is no term of an objective")
            if hasattr(nn.ModuleDict, key):
                raise UserError(f"objective.{key}: a term cannot have this name, choose another")
            as_needs(term.needs, type(term).__name__)
            self.configured[key] = term
        # A term that never counts is left out: it needs nothing and costs nothing.
        self.terms = nn.ModuleDict(
            {
                key: term
                for key, term in self.configured.items()
                if max(schedule_bounds(term.weight)) > 0
            }
        )

    @property
    def active_terms(self) -> dict[str, Term]:
        """The terms whose weight is above 0 at any time of the training, by name."""
        return {key: cast(Term, term) for key, term in self.terms.items()}

    def check(self, path: str = "objective") -> None:
        """Validate the weights.

        Raises:
            UserError: for the first invalid one, or if no term counts.
        """
        for key, term in self.configured.items():
            term.check_weight(f"{path}.{key}")
        if not self.configured:
            raise UserError(f"{path} has no terms: give it one")
        if not self.terms:
            names = ", ".join(f"{path}.{key}.weight" for key in self.configured)
            raise UserError(f"the objective's weights sum to 0: raise one of {names}")

    @property
    def needs(self) -> frozenset[Need]:
        """What the terms read of the models at any time of the training."""
        return _union_of_needs(self.active_terms.values())

    @property
    def trains_head(self) -> bool:
        """Whether any term trains the head; if not, no checkpoint is best by validation."""
        return any(term.trains_head for term in self.active_terms.values())

    @property
    def trains_every_parameter(self) -> bool:
        """Whether every step gives every parameter a gradient.

        False if the head is not trained or a term's weight follows a schedule and may be 0.
        """
        terms = self.active_terms.values()
        return self.trains_head and not any(isinstance(term.weight, Schedule) for term in terms)

    def bind(self, pair: ModelPair, path: str = "objective") -> "Objective":
        """Validate every term against the models; return the objective itself.

        Raises:
            UserError: if a term cannot be computed for them.
        """
        self.check(path)
        for key, term in self.active_terms.items():
            term.bind(pair, f"{path}.{key}")
        return self

    def weights_at(self, progress: float) -> dict[str, float]:
        """Return the weights above 0 at this fraction of the training, by term."""
        weights = {key: value_at(term.weight, progress) for key, term in self.active_terms.items()}
        return {key: weight for key, weight in weights.items() if weight > 0}

    def needs_at(self, progress: float) -> frozenset[Need]:
        """Return what the terms with a weight above 0 at this fraction of the training need."""
        terms = self.active_terms
        return _union_of_needs(terms[key] for key in self.weights_at(progress))

    def is_row_wise_at(self, progress: float) -> bool:
        """Return whether logits can be computed for some rows at a time.

        That is where every term with a weight above 0 at this fraction of the training is a mean
        over rows of logits, or reads no logits.
        """
        terms = [self.active_terms[key] for key in self.weights_at(progress)]
        return all(
            term.row_wise and not getattr(term, "has_adaptive_temperature", False)
            if term.reads_logits
            else True
            for term in terms
        ) and any(term.row_wise for term in terms)

    def scheduled_values(self, progress: float) -> dict[str, float]:
        """Return the values of schedules of time, for logging.

        Returns:
            ``weight/TERM`` and ``temperature/TERM`` of those that follow one.
        """
        return {
            f"{option}/{key}": float(value_at(value, progress))
            for key, term in self.active_terms.items()
            for option in ("weight", "temperature")
            if isinstance(value := getattr(term, option, None), Schedule) and not value.adaptive
        }

    def forward(
        self,
        student: ModelOutputs,
        teacher: ModelOutputs | None,
        batch: Batch,
        progress: float = 0.0,
    ) -> dict[str, Tensor]:
        """Compute the terms with a weight above 0, and their weighted sum.

        Args:
            student: the student's outputs.
            teacher: the teacher's outputs; ``None`` if no term needs them.
            batch: with ``labels``.
            progress: fraction of the training that is done, from 0 to 1.

        Returns:
            The unweighted losses by term, and their weighted sum as ``loss``, scalars.
        """
        weights, losses, terms = self.weights_at(progress), {}, self.active_terms
        in_chunks: list[str] = []
        for key in weights:
            term = terms[key]
            term.progress = progress
            if student.head_rows is not None and term.reads_logits:
                in_chunks.append(key)
            else:
                losses[key] = term(student, _teacher_of(term, teacher), batch)
        if in_chunks:
            total, of_chunks = _losses_in_chunks(
                {key: terms[key] for key in in_chunks},
                [weights[key] for key in in_chunks], student, teacher, batch,
            )  # fmt: skip
            rest = sum(weights[key] * loss for key, loss in losses.items())
            return {"loss": total + rest} | losses | of_chunks
        if not losses:  # every schedule is at 0
            return {"loss": student.logits.sum() * 0.0}
        return {"loss": sum(weights[key] * loss for key, loss in losses.items())} | losses


class OffPolicyObjective(Objective):
    """An objective whose method also trains on texts of the student's own, which this does not.

    Args:
        name: name of the objective in reports.
        on_policy: share of the batches on such texts, 0.
        terms: see :class:`Objective`.

    Raises:
        UserError: for any other share.
    """

    def __init__(self, name: str, on_policy: float = 0.0, **terms: Term | None):
        if on_policy != 0:
            raise UserError(
                f"objective.on_policy={on_policy}: training on texts that the student writes is "
                "not implemented, set it to 0"
            )
        super().__init__(name, **terms)


class Stage:
    """One part of a training: an objective with its own length and learning rate.

    Args:
        epochs: maximum number of epochs; ``None``: ``trainer.max_epochs``.
        learning_rate: peak learning rate; ``None``: the optimizer's.
        warmup: fraction of its steps over which the rate rises from 0; ``None``: the optimizer's.
        decay: ``linear``, ``cosine`` or ``constant``; ``None``: the optimizer's.
        terms: terms of the objective.
    """

    def __init__(
        self,
        epochs: int | None = None,
        learning_rate: float | None = None,
        warmup: float | None = None,
        decay: Literal["linear", "cosine", "constant"] | None = None,
        **terms: Term | None,
    ):
        self.name, self.epochs, self.learning_rate = "", epochs, learning_rate
        self.warmup, self.decay = warmup, decay
        self.objective = Objective("", **terms)

    def check(self, path: str) -> None:
        """Validate length, learning rate and weights.

        Raises:
            UserError: for the first invalid one.
        """
        if self.epochs is not None and self.epochs < 1:
            raise UserError(f"{path}.epochs={self.epochs}: it must be 1 or more")
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise UserError(f"{path}.learning_rate={self.learning_rate}: it must be above 0")
        if self.warmup is not None and not 0 <= self.warmup < 1:
            raise UserError(f"{path}.warmup={self.warmup}: a fraction from 0 to below 1")
        if self.decay not in (None, *DECAYS):
            raise UserError(f"{path}.decay={self.decay}: choose {', '.join(DECAYS)}")
        self.objective.check(path)

    @property
    def optimizer_settings(self) -> dict[str, Any]:
        """Settings of the optimizer that the stage has of its own, by name."""
        own = {"learning_rate": self.learning_rate, "warmup": self.warmup, "decay": self.decay}
        return {name: value for name, value in own.items() if value is not None}

    @classmethod
    def from_objective(cls, objective: Objective) -> "Stage":
        """Return the only stage of a plain objective."""
        stage = cls()
        stage.objective = objective
        return stage


class Recipe:
    """Several stages one after another, each starting from the weights of the one before.

    TinyBERT (Jiao et al. 2020, section 3.2) is an example: first hidden states and attention, then
    the predictions.

    Args:
        name: name of the recipe in reports.
        stages: stages by name, in order. The last one is logged under the usual names, the others
            under their own (``STAGE/train/loss``).

    Raises:
        UserError: if there is no stage, one is invalid, or the last one does not train the head.
    """

    def __init__(self, name: str, **stages: Stage):
        if not stages:
            raise UserError("the objective has no stages: name at least one")
        for key, stage in stages.items():
            if not isinstance(stage, Stage):
                raise UserError(f"objective.{key} is no stage (distill.objectives.objective.Stage)")
            if key in ("teacher", "control", "control_usual_length"):
                raise UserError(
                    f"objective.{key}: teacher and control are names of other curves, choose "
                    "another"
                )
            if not re.fullmatch(r"\w+", key):  # it names a folder of checkpoints
                raise UserError(f"objective.{key}: name a stage by letters, digits and _")
            stage.name = key
            stage.check(f"objective.{key}")
        last = list(stages.values())[-1]
        if not last.objective.trains_head:
            raise UserError(
                f"objective.{last.name}: the last stage must teach the head (logits or labels)"
            )
        self.name, self.stages = name, list(stages.values())

    @property
    def needs(self) -> frozenset[Need]:
        """What the stages read of the models at any time of the training."""
        return frozenset[Need]().union(*(stage.objective.needs for stage in self.stages))

    @property
    def active_terms(self) -> dict[str, Term]:
        """The terms of all stages by ``STAGE.TERM``."""
        return {
            f"{stage.name}.{key}": term
            for stage in self.stages
            for key, term in stage.objective.active_terms.items()
        }

    def bind(self, pair: ModelPair, path: str = "objective") -> "Recipe":
        """Validate every term against the models; return the recipe itself.

        Raises:
            UserError: if a term cannot be computed for them.
        """
        for stage in self.stages:
            stage.objective.bind(pair, f"{path}.{stage.name}")
        return self


def training_stages(objective: Objective | Recipe) -> list[Stage]:
    """Return the stages of a recipe; a plain objective is one stage of the trainer's length.

    Raises:
        UserError: if the objective does not train the head.
    """
    if isinstance(objective, Recipe):
        return objective.stages
    objective.check()
    if not objective.trains_head:
        raise UserError(
            "the objective must teach the head: give hard_labels or a term on logits a weight, or "
            "add a stage that does"
        )
    return [Stage.from_objective(objective)]


def _teacher_of(term: Term, teacher: ModelOutputs | None) -> ModelOutputs | None:
    """Return the outputs that a term compares with."""
    return teacher.for_teacher(term.teacher) if term.needs and teacher is not None else teacher


def _losses_in_chunks(
    terms: dict[str, Term],
    weights: list[float],
    student: ModelOutputs,
    teacher: ModelOutputs | None,
    batch: Batch,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute terms that are means over rows, a chunk of rows at a time.

    Returns:
        Their weighted sum, and each of them without gradient.
    """
    rows = student.head_rows
    assert rows is not None

    def losses_of(logits: Tensor, part: slice) -> Tensor:
        of_student = ModelOutputs(logits)
        of_teacher = None if teacher is None else _at_rows(teacher, part)
        labels = {"labels": batch["labels"][part]}
        return torch.stack(
            [term(of_student, _teacher_of(term, of_teacher), labels) for term in terms.values()]
        )

    factors = torch.tensor(weights, device=rows.hidden.device)
    total, losses = weighted_row_losses(
        rows.hidden, rows.weight, rows.bias, losses_of, factors, rows.chunks()
    )
    return total, dict(zip(terms, losses.unbind(), strict=True))


@torch.no_grad()
def _at_rows(teacher: ModelOutputs, part: slice) -> ModelOutputs:
    return teacher.at_rows(part)


def _union_of_needs(terms: Iterable[Term]) -> frozenset[Need]:
    return frozenset[Need]().union(*(term.needs for term in terms))
