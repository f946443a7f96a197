"""Names of earlier versions: class paths in saved configs, and options in British spelling.

A ``config.yaml`` of an earlier run, a user's own files and habits go on working. Class paths are
replaced quietly; a renamed option is replaced with one line on standard error.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from omegaconf import DictConfig, OmegaConf

from distill.core.errors import UserError

# Every class that a ``_target_`` could name in version 0.1.0, where its path has changed since.
TARGETS = {
    "distill.data.augmentation.WordNoise": "distill.data.augmentation.word_noise.WordNoise",
    "distill.data.embedded.Docstrings": "distill.data.sources.docstrings.DocstringSource",
    "distill.data.files.Files": "distill.data.sources.files.FileSource",
    "distill.data.hub.Hub": "distill.data.sources.hub.HubSource",
    "distill.data.masked_words.MaskedWords": "distill.data.augmentation.masked_words.MaskedWords",
    "distill.data.source.Source": "distill.data.sources.base.DataSource",
    "distill.fit.Fitter": "distill.training.trainer.TrainerFactory",
    "distill.objective.Objective": "distill.objectives.objective.Objective",
    "distill.objective.Recipe": "distill.objectives.objective.Recipe",
    "distill.objective.Stage": "distill.objectives.objective.Stage",
    "distill.optimizer.AdamW": "distill.training.optimizer.AdamW",
    "distill.schedules.Constant": "distill.objectives.schedules.Constant",
    "distill.schedules.Cosine": "distill.objectives.schedules.Cosine",
    "distill.schedules.Cwsm": "distill.objectives.schedules.CWSM",
    "distill.schedules.Flsw": "distill.objectives.schedules.FLSW",
    "distill.schedules.Linear": "distill.objectives.schedules.Linear",
    "distill.schedules.Step": "distill.objectives.schedules.Step",
    "distill.searching.study.Settings": "distill.search.study.SearchConfig",
    "distill.student.bilstm.BiLstm": "distill.student.bilstm.BiLSTMFactory",
    "distill.student.layers.FromTeacherLayers": "distill.student.from_layers.LayersFactory",
    "distill.student.pretrained.Pretrained": "distill.student.pretrained.PretrainedFactory",
    "distill.student.shape.FromShape": "distill.student.from_shape.ShapeFactory",
    "distill.student.static.Static": "distill.student.static.StaticFactory",
    "distill.sweep.SweepReport": "distill.cli.sweep.SweepReport",
    "distill.teacher.ensemble.EnsembleSettings": "distill.teacher.ensemble.EnsembleConfig",
    "distill.teacher.spec.TeacherSettings": "distill.teacher.config.TeacherConfig",
} | {
    f"distill.losses.{old}": f"distill.objectives.terms.{new}"
    for old, new in {
        "attention.AttentionMaps": "attention.AttentionMaps",
        "attention.AttentionScores": "attention.AttentionScores",
        "attention.Relations": "attention.AttentionRelations",
        "base.Term": "base.Term",
        "hard_labels.HardLabels": "hard_labels.HardLabels",
        "hidden_states.HiddenStates": "hidden_states.HiddenStates",
        "relations.AngleRelations": "relations.RKDAngle",
        "relations.DistanceRelations": "relations.RKDDistance",
        "relations.SimilarityPreserving": "relations.SimilarityPreserving",
        "soft_targets.DecoupledKD": "decoupled_kd.DecoupledKD",
        "soft_targets.Dist": "dist.DIST",
        "soft_targets.HardTeacherLabels": "soft_targets.HardTeacherLabels",
        "soft_targets.JensenShannon": "divergences.JensenShannon",
        "soft_targets.LogitTerm": "logit_term.LogitTerm",
        "soft_targets.LogitsMSE": "logits_mse.LogitsMSE",
        "soft_targets.ReverseKL": "divergences.ReverseKL",
        "soft_targets.SkewedKL": "divergences.SkewedKL",
        "soft_targets.SoftCrossEntropy": "soft_targets.SoftCrossEntropy",
        "soft_targets.SoftTargets": "soft_targets.SoftTargets",
        "soft_targets.TotalVariation": "divergences.TotalVariation",
    }.items()
}

# Last part of an option's name -> new last part, and the group that has the option (any if None).
OPTIONS: dict[str, tuple[str, str | None]] = {
    "unlabelled": ("unlabeled", "data"),
    "unlabelled_limit": ("unlabeled_limit", "data"),
    "standardise": ("standardize", None),
}
# Last part of an option's name, old value -> new value.
VALUES = {("measure", "normalised_mse"): "normalized_mse"}
# Files below conf/ that were renamed, without their suffix.
FILES = {"experiment/unlabelled": "experiment/unlabeled"}

_OVERRIDE = re.compile(r"(?P<prefix>\+{1,2}|~|)(?P<option>[^=]*)(?P<value>=.*)?", re.DOTALL)
_INTERPOLATION = re.compile(r"\$\{([\w.@]+)\}")
# Keys of a mapping that stands in an override: objective.soft_targets={standardise: true}
_KEY_IN_BRACES = re.compile(r"(?<=[{,\s])(\w+)(?=\s*:)")


class _Notices:
    """Which notices were printed; none are outside a command."""

    def __init__(self) -> None:
        self.printed: set[str] | None = None

    def print(self, old: str, new: str) -> None:
        name = old.rpartition(".")[2]
        if self.printed is not None and name not in self.printed:
            self.printed.add(name)
            print(f"note: {old} is now {new}", file=sys.stderr)


_notices = _Notices()


@contextmanager
def rename_notices() -> Iterator[None]:
    """Print one line for each renamed option that is met inside the context."""
    outer, _notices.printed = _notices.printed, set()
    try:
        yield
    finally:
        _notices.printed = outer


def update_overrides(arguments: Sequence[str]) -> list[str]:
    """Replace old names in command-line arguments; whatever is no override stays as it is."""
    return [
        argument if argument.startswith("-") else _update_override(argument)
        for argument in arguments
    ]


def update_config(config: DictConfig) -> DictConfig:
    """Replace old class paths and option names in a config; interpolations are kept.

    Returns:
        The config itself where it has no old name.

    Raises:
        UserError: if an option is there under both its old and its new name.
    """
    before = OmegaConf.to_container(config, resolve=False)
    after = _update_node(before)
    if after == before:
        return config
    updated = OmegaConf.create(after)
    OmegaConf.set_struct(updated, OmegaConf.is_struct(config))
    return updated


def update_file(path: str) -> str:
    """Return the present name of a config file, given relative to a config folder."""
    return FILES.get(path.removesuffix(".yaml"), path)


def note_file(path: str) -> None:
    """Print the notice for a file that is given by its old name."""
    old, new = path.removesuffix(".yaml"), update_file(path)
    _notices.print(old.replace("/", "="), new.replace("/", "="))


def _update_override(argument: str) -> str:
    match = _OVERRIDE.fullmatch(argument)
    if match is None or (match["value"] is None and match["prefix"] != "~"):
        return argument
    option, value = _update_option(match["option"]), match["value"] or ""
    value = _update_interpolations(value)
    if "{" in value:
        value = _KEY_IN_BRACES.sub(lambda key: _update_option(key[1]), value)
    for (leaf, old), new in VALUES.items():
        if option.split(".")[-1] == leaf or "{" in value:
            updated = re.sub(rf"\b{old}\b", new, value)
            if updated != value:
                _notices.print(old, new)
            value = updated
    return f"{match['prefix']}{option}{value}"


def _update_option(option: str, is_value: bool = True) -> str:
    """Return an option's present name.

    Args:
        option: Whole, or its last part alone where a file gives no more.
        is_value: Whether it has a value, in contrast to a mapping of that name.
    """
    parents, dot, leaf = option.rpartition(".")
    if leaf not in OPTIONS:
        return option
    new, group = OPTIONS[leaf]
    if group is None or parents == group or (not parents and is_value):
        shown = f"{group}." if group and not parents else f"{parents}{dot}"
        _notices.print(f"{shown}{leaf}", f"{shown}{new}")
        return f"{parents}{dot}{new}"
    return option


def _update_interpolations(text: str) -> str:
    return _INTERPOLATION.sub(lambda match: f"${{{_update_option(match[1])}}}", text)


def _update_node(node: Any, leaf: str = "") -> Any:
    """Replace old names in plain values that belong to an option whose name ends in ``leaf``."""
    if isinstance(node, dict):
        updated: dict[Any, Any] = {}
        for key, value in node.items():
            new = key
            if isinstance(key, str):
                new = _update_option(key, is_value=not isinstance(value, dict | list))
            if new in updated or (new != key and new in node):
                raise UserError(f"{key} is the old name of {new}: leave out {key}")
            updated[new] = _update_node(value, str(new).rpartition(".")[2])
        return updated
    if isinstance(node, list):
        return [_update_node(value, leaf) for value in node]
    if not isinstance(node, str):
        return node
    if leaf == "_target_":
        return TARGETS.get(node, node)
    if (leaf, node) in VALUES:
        _notices.print(node, VALUES[leaf, node])
        return VALUES[leaf, node]
    return _update_interpolations(node)
