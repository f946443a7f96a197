"""Groups of runs that differ only by seed, and the settings in which the groups differ."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from distill.reporting.gather import Run, UnfinishedRun
from distill.reporting.quantities import quantity

# Paths and names do not change what a run computes; whether a control was trained beside the
# student does not change the student, and how many seeds it was trained on changes none of them.
NOT_SETTINGS = frozenset(
    {
        "output_dir",
        "cache_dir",
        "name",
        "resume",
        "overrides",
        "hydra",
        "control",
        "repeats",
        "baselines",
    }
)
DEFAULT = "default"


@dataclass
class RunGroup:
    """Runs that differ only by seed, sorted by it."""

    runs: list[Run]
    name: str
    settings: dict[str, str] = field(default_factory=dict)  # those in which the groups differ


def group_runs(runs: Sequence[Run]) -> tuple[list[RunGroup], list[UnfinishedRun]]:
    """Group runs that differ only by seed, and find the settings in which the groups differ.

    Runs belong together when their resolved configs are equal except for seeds and paths; where
    one of them has no config.yaml, when their overrides are. Of several runs with the same seed,
    the one started last counts, because a repetition is not another sample, and a run of several
    seeds counts before those of some of them: the others are returned beside the groups.
    """
    with_config = all(run.config is not None for run in runs)
    members: dict[tuple[object, ...], list[Run]] = {}
    for run in sorted(runs, key=lambda run: str(run.report.run.started), reverse=True):
        settings = _settings(run, (run.config or {}) if with_config else run.overrides)
        sizes = tuple(
            (model.role, quantity("parameters").read(model))
            for model in run.report.models
            if not model.is_teacher
        )
        key = (*sorted(settings.items()), *sizes)
        members.setdefault(key, []).append(run)
    groups: list[RunGroup] = []
    repeated: list[UnfinishedRun] = []
    for alike in members.values():
        kept_runs: list[Run] = []
        for run in sorted(alike, key=lambda run: -len(run.seeds)):  # of equal ones the latest first
            kept = next((other for other in kept_runs if run.seeds <= other.seeds), None)
            if kept is None:
                kept_runs.append(run)
                continue
            reason = f"same settings and seed as the later {kept.directory}"
            if run.seeds < kept.seeds:
                reason = f"same settings as {kept.directory}, which has its seed among others"
            repeated.append(UnfinishedRun(run.directory, "repeated", reason))
        kept_runs.sort(key=lambda run: (run.seed is None, run.seed or 0))
        groups.append(RunGroup(kept_runs, kept_runs[0].name))
    groups.sort(key=lambda group: group.runs[0].directory)
    _name_groups(groups)
    _name_differences(groups)
    return groups, repeated


def _settings(run: Run, values: Mapping[str, str]) -> dict[str, str]:
    """Return ``values`` without seeds, names and what contains the run's own path."""
    own = (run.config or {}).get("output_dir") or run.overrides.get("output_dir")
    return {
        key: value
        for key, value in values.items()
        if key.rpartition(".")[2] != "seed"
        and key.partition(".")[0] not in NOT_SETTINGS
        and not (own and own in value)
    }


def _name_groups(groups: Sequence[RunGroup]) -> None:
    """Shorten names: without seed, job number, time, and the words that all names begin with.

    Where the groups could no longer be told apart, the names stay as they are.
    """
    names = []
    for group in groups:
        name = re.sub(r"^\d+-(?=.)|-\d{4}-\d{6}$", "", group.name)
        name = re.sub(rf"[-_ ,.]*\b(seed|s)[-_=]?{group.runs[0].seed}\b", "", name).strip("-_ ,.")
        # Nothing is left in a sweep over seeds alone: take its folder's name.
        names.append(name or group.runs[0].path.parent.name)
    if len(set(names)) < len(names) or not all(names):
        return
    words = [name.split("-") for name in names]
    shared = 0
    while len(words) > 1 and all(len(w) > shared + 1 for w in words):
        if len({w[shared] for w in words}) > 1:
            break
        shared += 1
    for group, parts in zip(groups, words, strict=True):
        group.name = "-".join(parts[shared:])


def _name_differences(groups: Sequence[RunGroup]) -> None:
    """Fill in ``settings``: the overrides, and the config where these do not tell groups apart."""
    typed = [_settings(group.runs[0], group.runs[0].overrides) for group in groups]
    configs = [_settings(group.runs[0], group.runs[0].config or {}) for group in groups]

    def differing(keys: Iterable[str], among: Sequence[int]) -> dict[str, list[str]]:
        columns = {
            key: [configs[i].get(key, typed[i].get(key, DEFAULT)) for i in among] for key in keys
        }
        return {key: column for key, column in columns.items() if len(set(column)) > 1}

    all_groups = range(len(groups))
    columns = differing(dict.fromkeys(key for t in typed for key in t), all_groups)
    keys = list(columns)
    by_values: dict[tuple[str, ...], list[int]] = {}
    for i in all_groups:
        by_values.setdefault(tuple(column[i] for column in columns.values()), []).append(i)
    for alike in by_values.values():
        keys += differing(dict.fromkeys(key for i in alike for key in configs[i]), alike)
    columns = differing(dict.fromkeys(keys), all_groups)
    for key, name in zip(columns, _short_names(columns), strict=True):
        for group, value in zip(groups, columns[key], strict=True):
            group.settings[name] = value


def _short_names(keys: Iterable[str]) -> list[str]:
    """Return the shortest distinct dotted ends: ``soft_targets.weight``, ``layers``."""
    keys = list(keys)

    def end(key: str, parts: int) -> str:
        return ".".join(key.split(".")[-parts:])

    names = []
    for key in keys:
        parts = 1
        while parts <= key.count(".") and sum(end(k, parts) == end(key, parts) for k in keys) > 1:
            parts += 1
        names.append(end(key, parts))
    return names
