"""Several teachers as one: how they are made ready, read their texts, and speak together."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput

from distill.core.errors import UserError
from distill.core.jagged import ArrayOrJagged, JaggedArray
from distill.data.collate import Collator
from distill.data.preprocessor import POSITIONS, Field
from distill.modeling.features import ModelOutputs, forward_with_features
from distill.modeling.forward import output_logits
from distill.modeling.loading import call_model
from distill.objectives.criterion import Criterion
from distill.teacher.config import TeacherConfig
from distill.teacher.prepare import Teacher

Combine = Literal["probabilities", "logits", "random"]


@dataclass(kw_only=True)
class EnsembleConfig:
    """Several teachers by their paths.

    Each one has its own tokenizer, is fine-tuned where it needs to be, and its outputs are kept on
    their own: a teacher shared with another ensemble, or used alone, is not computed again.
    Students that start from the teacher start from the first.

    Attributes:
        paths: two or more, as ``teacher.path``; or by names of yours, ``{big: ..., small: ...}``.
        combine: ``probabilities``: the mean of their softened distributions (Hinton et al. 2015,
            section 1); ``logits``: the mean of their logits, the geometric mean of the
            distributions; ``random``: one of them for each batch, drawn with the weights as
            probabilities (Fukuda et al. 2017, "Efficient Knowledge Distillation from an Ensemble of
            Teachers"); measured and compared as the mean of the probabilities. With regression the
            numbers themselves are averaged.
        weights: one for each, in the order of the paths; ``None``: equal ones. Their sum does not
            matter.
        seeds: of fine-tuning, one for each: the same path with several seeds is an ensemble too.
        fine_tune: as for a single teacher, for all of them.
        epochs: of fine-tuning, at most.
        learning_rate: of fine-tuning; ``None`` chooses by each model's size.
        batch_size: of fine-tuning.
        seed: of fine-tuning where ``seeds`` does not say it.
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

    def __post_init__(self):
        if len(self.paths) < 2:
            raise UserError("teacher.paths: an ensemble has two teachers or more")
        if self.combine not in ("probabilities", "logits", "random"):
            raise UserError(
                f"teacher.combine={self.combine}: choose probabilities, logits or random"
            )
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
        """Each teacher's own settings, by its name."""
        if isinstance(self.paths, Mapping):
            named = dict(self.paths)
        else:
            # In tensors' names a dot would separate.
            ends = [
                path.removeprefix("package:").rstrip("/").split("/")[-1].replace(".", "_")
                for path in self.paths
            ]
            names: list[str] = []
            for end in ends:
                number = itertools.count(1)
                tried = end if ends.count(end) == 1 else f"{end}-{next(number)}"
                while tried in names or (tried != end and tried in ends):
                    tried = f"{end}-{next(number)}"
                names.append(tried)
            named = dict(zip(names, self.paths, strict=True))
        wrong = [name for name in named if "." in name]
        if wrong:
            raise UserError(f"teacher.paths: the name {wrong[0]} has a dot in it")
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

    @property
    def name(self) -> str:
        """What reports call it: its members' names."""
        return "+".join(self.members)

    def build(self, ready: Mapping[str, Teacher]) -> Teacher:
        """The members, made ready, as one teacher."""
        for (name, one), (other, two) in itertools.combinations(ready.items(), 2):
            if one.hash == two.hash:
                raise UserError(
                    f"teacher.paths: {name} and {other} are the very same model, which is no "
                    "ensemble (seeds make a difference only where a head is fine-tuned)"
                )
        weights = self.weights or [1.0] * len(ready)
        shares = {name: weight / sum(weights) for name, weight in zip(ready, weights, strict=True)}
        model = Ensemble({name: one.model for name, one in ready.items()}, self.combine, shares)
        first = next(iter(ready.values()))
        return Teacher(
            self.name,
            model.eval(),
            first.processor,
            "+".join(one.hash for one in ready.values()),
            sum(one.seconds for one in ready.values()),
            all(one.reused for one in ready.values()),
            dict(ready),
        )


class Ensemble(nn.Module):
    """Several models that speak as one.

    Args:
        members: by name.
        combine: see :class:`EnsembleConfig`.
        shares: each one's weight; they sum to 1.
    """

    def __init__(
        self, members: Mapping[str, nn.Module], combine: Combine, shares: Mapping[str, float]
    ):
        super().__init__()
        self.names = list(members)
        self._models = nn.ModuleList(members.values())
        self.combine, self.shares = combine, dict(shares)

    @property
    def members(self) -> dict[str, nn.Module]:
        """Each of them by its name."""
        return dict(zip(self.names, self._models, strict=True))

    @property
    def config(self):
        """The first one's."""
        return self._models[0].config

    def forward(self, **inputs: Tensor) -> SequenceClassifierOutput:
        """What they say together, ``logits`` ``(N, C)``.

        Args:
            inputs: ``NAME.FIELD`` for each member and field; or ``FIELD``, which all of them get.
        """
        shared = not any("." in name for name in inputs)
        said = {
            name: ModelOutputs(
                output_logits(
                    call_model(member, inputs if shared else _member_inputs(inputs, name))
                )
            )
            for name, member in self.members.items()
        }
        return SequenceClassifierOutput(logits=self.combine_outputs(said, draws=False).logits)

    def outputs(
        self, inputs: Mapping[str, Tensor], needs: Sequence[str], draws: bool = True
    ) -> ModelOutputs:
        """What an objective sees of them: one forward pass of each."""
        said = {
            name: forward_with_features(member, _member_inputs(inputs, name), needs)
            for name, member in self.members.items()
        }
        return self.combine_outputs(said, draws)

    def read(self, logits: Tensor) -> ModelOutputs:
        """The same of stored logits ``(N, K, C)``, one for each of the K members."""
        return self.combine_outputs(
            {name: ModelOutputs(logits[:, index]) for index, name in enumerate(self.members)}
        )

    def combine_outputs(self, said: Mapping[str, ModelOutputs], draws: bool = True) -> ModelOutputs:
        """Combine what each of them says.

        Args:
            said: by name.
            draws: whether ``random`` draws one; or else gives the mean of the probabilities.
        """
        if self.combine == "random" and draws:
            shares = torch.tensor([self.shares[name] for name in said])
            drawn = list(said.values())[int(torch.multinomial(shares, 1))]
            return ModelOutputs(drawn.logits, members=said)
        kind = getattr(self.config, "problem_type", None)
        # A number is the mean of a distribution already.
        if self.combine == "logits" or kind == "regression":
            logits = sum(self.shares[name] * one.logits.float() for name, one in said.items())
            return ModelOutputs(logits, members=said)
        both = ModelOutputs(
            next(iter(said.values())).logits, members=said, averaged=self.shares,
            by_class=kind == "multi_label_classification",
        )  # fmt: skip
        both.logits = both.logits_at(1.0)
        return both


def combine_logits(
    model: nn.Module, logits: Sequence[ArrayOrJagged], criterion: Criterion
) -> ArrayOrJagged:
    """Logits at temperature 1 of an ensemble's stored ones, for measuring.

    Args:
        model: the ensemble.
        logits: ``(N, C)`` or ragged, of each member.
        criterion: arranges logits as distributions.
    """
    ragged = isinstance(logits[0], JaggedArray)
    values = [one.values if isinstance(one, JaggedArray) else one for one in logits]
    batch = (
        {"position_counts": torch.from_numpy(logits[0].counts)}
        if isinstance(logits[0], JaggedArray)
        else {}
    )
    said = {
        name: ModelOutputs(criterion.to_distributions(torch.from_numpy(one.copy()), batch))
        for name, one in zip(model.members, values, strict=True)
    }
    mean = criterion.from_distributions(
        model.combine_outputs(said, draws=False).logits, batch
    ).numpy()
    return JaggedArray(mean, logits[0].counts) if ragged else mean


class EnsembleRows:
    """The same examples as each member reads them.

    Args:
        rows: encoded, by member; the first one's lengths count.
    """

    def __init__(self, rows: Mapping[str, Dataset]):
        self.rows = dict(rows)

    def __len__(self) -> int:
        return len(next(iter(self.rows.values())))

    def __getitem__(self, key: str | list[int]) -> Any:
        if isinstance(key, str):
            return self.first[key]
        joined = {name: rows[key] for name, rows in self.rows.items()}
        own = next(iter(joined.values()))
        return {"members": joined} | {key: own[key] for key in ("label", POSITIONS) if key in own}

    @property
    def first(self) -> Dataset:
        """As the first one reads them."""
        return next(iter(self.rows.values()))

    @property
    def column_names(self) -> list[str]:
        """The first one's."""
        return self.first.column_names


class EnsembleCollator:
    """Pads each member's rows by itself: ``NAME.FIELD``.

    Args:
        collates: by member.
    """

    def __init__(self, collates: Mapping[str, Collator]):
        self.collates = dict(collates)
        self.fields: tuple[Field, ...] = ()  # of no single model
        self.transform = next(iter(self.collates.values())).transform  # the task's, one for all

    def __call__(self, rows: Mapping[str, Any]) -> dict[str, Tensor]:
        """Ids ``(B, L)`` and masks of every member."""
        return {
            f"{name}.{key}": value
            for name, collate in self.collates.items()
            for key, value in collate(rows["members"][name]).items()
        }


def _member_inputs(inputs: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    start = f"{name}."
    return {
        key.removeprefix(start): value for key, value in inputs.items() if key.startswith(start)
    }
