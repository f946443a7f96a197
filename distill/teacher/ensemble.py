"""Ensembles of teachers: their configuration, their examples and their combined logits."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from distill.core.errors import UserError
from distill.core.jagged import ArrayOrJagged, JaggedArray
from distill.data.collate import Collator
from distill.data.prepare import PreparedData
from distill.data.preprocessor import POSITIONS, Field, PassSeed, Views
from distill.data.schema import LABEL
from distill.modeling.ensemble import Combine, Ensemble
from distill.modeling.outputs import ModelOutputs
from distill.objectives.criterion import Criterion
from distill.teacher.config import TeacherConfig
from distill.teacher.prepare import Teacher


@dataclass(kw_only=True)
class EnsembleConfig:
    """Several teachers, by the paths of their models.

    Each member has its own tokenizer, is fine-tuned if its head is not trained, and has its own
    cached logits: those of a teacher that is also used alone or in another ensemble are computed
    once. Students that start from the teacher start from the first member.

    Attributes:
        paths: two or more paths, as ``teacher.path``; or paths by name, ``{big: ..., small: ...}``.
        combine: ``probabilities``: the mean of their softened distributions (Hinton et al. 2015,
            section 1); ``logits``: the mean of their logits, the geometric mean of the
            distributions; ``random``: one of them for each batch, drawn with the weights as
            probabilities (Fukuda et al. 2017, "Efficient Knowledge Distillation from an Ensemble of
            Teachers"), evaluated as the mean of the probabilities. For regression the outputs
            themselves are averaged.
        weights: weight of each member in the order of the paths, normalized to a sum of 1;
            ``None``: equal weights.
        seeds: seed of fine-tuning for each member: the same path with several seeds is an ensemble
            too.
        fine_tune: as for a single teacher, for all members.
        epochs: maximum number of epochs of fine-tuning.
        learning_rate: learning rate of fine-tuning; ``None`` chooses it by each model's size.
        batch_size: batch size of fine-tuning.
        seed: seed of fine-tuning for all members if ``seeds`` is ``None``.
        outputs: as for a single teacher.
    """

    paths: list[str] | dict[str, str]
    combine: Combine = "probabilities"
    weights: list[float] | None = None
    seeds: list[int] | None = None
    fine_tune: bool | Literal["auto"] = "auto"
    epochs: int = 3
    learning_rate: float | None = None
    batch_size: int = 32
    seed: int = 0
    outputs: Literal["auto", "cached", "live"] = "auto"

    def __post_init__(self) -> None:
        if len(self.paths) < 2:
            raise UserError("teacher.paths: an ensemble has two teachers or more")
        if self.combine not in ("probabilities", "logits", "random"):
            raise UserError(
                f"teacher.combine={self.combine}: choose probabilities, logits or random"
            )
        if not 0 <= self.seed < 2**31:
            raise UserError(f"teacher.seed={self.seed}: it must be 0 or above, below 2147483648")
        for option in ("weights", "seeds"):
            given = getattr(self, option)
            if given is not None and len(given) != len(self.paths):
                raise UserError(
                    f"teacher.{option}={list(given)}: give one for each of the {len(self.paths)} "
                    "teachers"
                )
        if self.weights is not None and min(self.weights) <= 0:
            raise UserError(f"teacher.weights={list(self.weights)}: they must be above 0")
        members = list(self.members.values())
        for number, member in enumerate(members):
            if member in members[:number]:
                raise UserError(
                    f"teacher.paths has {member.path} twice with the same seed: give them "
                    "teacher.seeds"
                )

    @cached_property
    def members(self) -> dict[str, TeacherConfig]:
        """Configuration of each member by name."""
        if isinstance(self.paths, Mapping):
            named = dict(self.paths)
        else:
            # A dot would separate parts of the names of tensors.
            ends = [
                path.removeprefix("package:").rstrip("/").split("/")[-1].replace(".", "_")
                for path in self.paths
            ]
            names: list[str] = []
            for end in ends:
                number = itertools.count(1)
                name = end if ends.count(end) == 1 else f"{end}-{next(number)}"
                while name in names or (name != end and name in ends):
                    name = f"{end}-{next(number)}"
                names.append(name)
            named = dict(zip(names, self.paths, strict=True))
        dotted = [name for name in named if "." in name]
        if dotted:
            raise UserError(f"teacher.paths: the name {dotted[0]} has a dot in it, choose another")
        assert len(named) == len(self.paths)
        seeds = self.seeds or [self.seed] * len(named)
        return {
            name: TeacherConfig(
                path=path, fine_tune=self.fine_tune, epochs=self.epochs,
                learning_rate=self.learning_rate, batch_size=self.batch_size, seed=seed,
                outputs=self.outputs,
            )
            for (name, path), seed in zip(named.items(), seeds, strict=True)
        }  # fmt: skip

    def for_data(self, data: PreparedData, cache_dir: Path) -> "EnsembleConfig":
        """Return itself: its members are pretrained models."""
        return self

    @property
    def name(self) -> str:
        """Name in reports: the names of the members."""
        return "+".join(self.members)

    def build(self, members: Mapping[str, Teacher]) -> Teacher:
        """Return one teacher that combines prepared members.

        Raises:
            UserError: if two members are the same model.
        """
        for (name, member), (other_name, other_member) in itertools.combinations(
            members.items(), 2
        ):
            if member.hash == other_member.hash:
                raise UserError(
                    f"teacher.paths: {name} and {other_name} are the very same model, which is no "
                    "ensemble (seeds make a difference only where a head is fine-tuned)"
                )
        weights = self.weights or [1.0] * len(members)
        model = Ensemble(
            {name: member.model for name, member in members.items()},
            self.combine,
            {name: weight / sum(weights) for name, weight in zip(members, weights, strict=True)},
        )
        first = next(iter(members.values()))
        return Teacher(
            self.name,
            model.eval(),
            first.processor,
            "+".join(member.hash for member in members.values()),
            sum(member.seconds for member in members.values()),
            all(member.reused for member in members.values()),
            dict(members),
            [file for member in members.values() for file in member.weight_files],
        )


def expand_seeds(config: TeacherConfig | EnsembleConfig) -> TeacherConfig | EnsembleConfig:
    """Return an ensemble of the seeds of a single teacher that has ``seeds``; others unchanged.

    Members are fine-tuned and cached as single teachers of these seeds are, and their softened
    probabilities are averaged. One seed alone is a single teacher.

    Raises:
        UserError: if the teacher's head is not fine-tuned, so that all seeds are the same model.
    """
    if not isinstance(config, TeacherConfig) or config.seeds is None:
        return config
    given = config.seeds
    seeds = list(range(config.seed, config.seed + given)) if isinstance(given, int) else given
    if not isinstance(given, int) and config.seed != 0:
        raise UserError(f"teacher.seed={config.seed} would be ignored beside teacher.seeds={given}")
    if len(seeds) == 1:
        return replace(config, seed=seeds[0], seeds=None)
    if config.labels is not None or config.fine_tune is False:
        option = "labels" if config.labels is not None else "fine_tune"
        raise UserError(
            f"teacher.seeds={given} fine-tunes one teacher per seed, and teacher.{option} asks for "
            "the head as it is: leave one of them out"
        )
    return EnsembleConfig(
        paths=[config.path] * len(seeds), seeds=seeds, fine_tune=config.fine_tune,
        epochs=config.epochs, learning_rate=config.learning_rate, batch_size=config.batch_size,
        outputs=config.outputs,
    )  # fmt: skip


def combine_logits(
    model: Ensemble, logits: Sequence[ArrayOrJagged], criterion: Criterion
) -> ArrayOrJagged:
    """Combine the cached logits of an ensemble's members at temperature 1, for the evaluation.

    Args:
        model: the ensemble.
        logits: logits of each member, ``(N, C)`` or jagged.
        criterion: arranges logits as distributions.
    """
    counts = logits[0].counts if isinstance(logits[0], JaggedArray) else None
    batch = {} if counts is None else {"position_counts": torch.from_numpy(counts)}
    values = [rows.values if isinstance(rows, JaggedArray) else rows for rows in logits]
    outputs = {
        name: ModelOutputs(criterion.to_distributions(torch.from_numpy(rows.copy()), batch))
        for name, rows in zip(model.members, values, strict=True)
    }
    combined = model.combine_outputs(outputs, draws=False).logits
    mean = criterion.from_distributions(combined, batch).numpy()
    return mean if counts is None else JaggedArray(mean, counts)


class EnsembleRows:
    """The same examples encoded for each member of an ensemble.

    Args:
        rows: encoded rows by member; the lengths of the first are used for batching.
    """

    def __init__(self, rows: Mapping[str, Dataset]):
        self.rows = dict(rows)

    def __len__(self) -> int:
        return len(next(iter(self.rows.values())))

    def __getitem__(self, key: str | list[int]) -> Any:
        if isinstance(key, str):
            return self.first[key]
        members = {name: rows[key] for name, rows in self.rows.items()}
        first = next(iter(members.values()))
        shared = {column: first[column] for column in (LABEL, POSITIONS) if column in first}
        return {"members": members} | shared

    @property
    def first(self) -> Dataset:
        """Rows encoded for the first member."""
        return next(iter(self.rows.values()))

    @property
    def column_names(self) -> list[str]:
        """Columns of the first member's rows."""
        names: list[str] = self.first.column_names
        return names


@dataclass(frozen=True)
class EnsembleViews:
    """Views of the examples as each member reads them.

    Attributes:
        members: views of each member by name.
    """

    members: Mapping[str, Views]

    @property
    def count(self) -> int:
        """Number of views of each example."""
        return next(iter(self.members.values())).count

    def with_view(self, number: int) -> "EnsembleViews":
        """Return the same with one view of every example."""
        return EnsembleViews({name: one.with_view(number) for name, one in self.members.items()})

    def numbers(self, rows: Mapping[str, Any], pass_seed: PassSeed) -> np.ndarray | None:
        """Return the number of the view of each row, ``(B,)``."""
        name, views = next(iter(self.members.items()))
        return views.numbers(rows["members"][name], pass_seed)

    def __call__(self, rows: Mapping[str, Any], pass_seed: PassSeed) -> dict[str, Any]:
        """Return every member's rows as it sees them."""
        seen = {name: one(rows["members"][name], pass_seed) for name, one in self.members.items()}
        return {**rows, "members": seen}


class EnsembleCollator:
    """Collates the rows of each member into fields called ``NAME.FIELD``.

    Args:
        collates: collator of each member by name.
    """

    def __init__(self, collates: Mapping[str, Collator]):
        self.collates = dict(collates)
        self.fields: tuple[Field, ...] = ()  # they are the members'
        first = next(iter(self.collates.values()))
        self.transform = first.transform  # the same for all members
        self.views: Views | None = None
        if first.views is not None:
            self.views = EnsembleViews(
                {name: one.views for name, one in self.collates.items() if one.views is not None}
            )

    def __call__(self, rows: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the model inputs of every member, such as ids ``(B, L)`` and masks."""
        return {
            f"{name}.{key}": value
            for name, collate in self.collates.items()
            for key, value in collate(rows["members"][name]).items()
        }
