"""One line of the comparison: a model, over the seeds that it was trained with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from distill.metrics.statistics import mean_interval
from distill.reporting.gain import Gain, combine
from distill.reporting.gather import Run
from distill.reporting.group import Group
from distill.reporting.text import LOWER_IS_BETTER, finite

OVER_EXAMPLES = "test examples"
OVER_SEEDS = "seeds"

# What can be the figure's x: everything that a deployment pays for.
COSTS = ("parameters", "bytes", "latency_ms", "multiply_accumulates")
MEASURES_OF_SIZE_AND_SPEED = (
    *("parameters", "parameters_without_embeddings", "bytes", "multiply_accumulates"),
    *("latency_ms", "latency_ms_p95", "examples_per_second", "peak_memory_bytes"),
)


@dataclass
class Row:
    """A model of a group of runs that differ only by seed.

    Attributes:
        name: The group's name; for a teacher, the model's.
        role: teacher, student, control, or a variant such as student_int8.
        settings: Those in which the compared groups differ; empty for a teacher.
        runs: For each run its folder, its seed and its own values.
        values: Means over the runs; None where it was not measured.
        intervals: (low, high), 95 %, of the values that have one.
        interval_over: ``seeds`` (Student's t) or ``test examples`` (the one run's bootstrap).
        gain: Of a student over its control.
        on_front: Whether no other student is at least as good and as cheap.
    """

    name: str
    role: str
    settings: dict[str, str]
    runs: list[dict[str, Any]]
    values: dict[str, float | None]
    intervals: dict[str, tuple[float, float]]
    interval_over: str
    gain: Gain | None = None
    on_front: bool = field(default=False)

    @property
    def title(self) -> str:
        """The name, with the role where it is not plainly a student: ``half-kd (int8)``."""
        role = self.role.removeprefix("student").removeprefix("_")
        return f"{self.name} ({role})" if role else self.name

    @property
    def scores(self) -> list[str]:
        """The measures of quality, calibration and fidelity."""
        others = {*MEASURES_OF_SIZE_AND_SPEED, "retention"}
        return [name for name in self.values if name not in others]

    @property
    def is_candidate(self) -> bool:
        """Whether this is a model to choose: not the teacher, not the control."""
        return self.role not in ("teacher", "control")

    def interval(self, name: str) -> tuple[float | None, float | None, float | None]:
        """(value, low, high) of a measure."""
        return (self.values.get(name), *self.intervals.get(name, (None, None)))


def build_rows(groups: Sequence[Group], metric: str | None, y: str | None) -> list[Row]:
    """Every model of every group, and each teacher once.

    Args:
        groups: Runs that differ only by seed.
        metric: The metric that gains are measured in; a run that used another has no gain here.
        y: The metric that ``retention`` is about.
    """
    rows = []
    for group in groups:
        roles = dict.fromkeys(m["role"] for run in group.runs for m in run.report["models"])
        for role in roles:
            if role == "teacher":
                continue
            found = [(run, model) for run in group.runs if (model := _model(run, role))]
            row = _row(group.name, role, group.settings, found, y)
            if role == "student":
                row.gain = combine([_gain(run, metric) for run, _ in found])
            rows.append(row)
    return rows + _teachers(groups, y)


def _teachers(groups: Sequence[Group], y: str | None) -> list[Row]:
    """Each teacher once: runs that share one measured the same model, not further draws of it."""
    found: dict[tuple, list[tuple[Run, dict[str, Any]]]] = {}
    for run in (run for group in groups for run in group.runs):
        if teacher := _model(run, "teacher"):
            key = (teacher.get("name"), (teacher.get("size") or {}).get("parameters"))
            found.setdefault(key, []).append((run, teacher))
    rows = []
    for (name, _), uses in found.items():
        distinct = {tuple(_quality(model).items()): (run, model) for run, model in uses}
        row = _row(name or "teacher", "teacher", {}, list(distinct.values()), y)
        everywhere = _row(row.name, "teacher", {}, uses, y)
        for measure in MEASURES_OF_SIZE_AND_SPEED:
            row.values[measure] = everywhere.values[measure]
        rows.append(row)
    return rows


def _row(
    name: str,
    role: str,
    settings: dict[str, str],
    found: Sequence[tuple[Run, dict[str, Any]]],
    y: str | None,
) -> Row:
    measured = [_measures(model, _model(run, "teacher"), y) for run, model in found]
    scores = dict.fromkeys(score for _, model in found for score in _quality(model))
    values: dict[str, float | None] = {}
    intervals = {}
    for measure in dict.fromkeys(measure for values in measured for measure in values):
        numbers = [n for values in measured if (n := values.get(measure)) is not None]
        values[measure] = None
        if numbers:
            values[measure], low, high = mean_interval(numbers)
            if measure in scores and low is not None:
                intervals[measure] = (low, high)
    if len(found) == 1:
        for metric, entry in (found[0][1].get("quality") or {}).items():
            low, high = finite(entry.get("low")), finite(entry.get("high"))
            if low is not None and high is not None:
                intervals[metric] = (low, high)
    runs = [
        {"directory": run.directory, "seed": run.seed, "values": values}
        for (run, _), values in zip(found, measured, strict=True)
    ]
    over = OVER_SEEDS if len(found) > 1 else OVER_EXAMPLES
    return Row(name, role, dict(settings), runs, values, intervals, over)


def _model(run: Run, role: str) -> dict[str, Any] | None:
    return next((model for model in run.report["models"] if model["role"] == role), None)


def _gain(run: Run, metric: str | None) -> dict[str, Any]:
    comparison = run.report.get("comparison") or {}
    return (comparison.get("gain_over_control") or {}) if comparison.get("metric") == metric else {}


def _quality(model: dict[str, Any]) -> dict[str, float | None]:
    """All scores, those of quality first."""
    scores = {k: finite(entry.get("value")) for k, entry in (model.get("quality") or {}).items()}
    for part in ("calibration", "fidelity"):
        scores |= {name: finite(value) for name, value in (model.get(part) or {}).items()}
    return scores


def _measures(
    model: dict[str, Any], teacher: dict[str, Any] | None, y: str | None
) -> dict[str, float | None]:
    """Everything that was measured of one model, flat."""
    size, speed = model.get("size") or {}, model.get("speed") or {}
    latency = speed.get("latency_ms") or {}
    flat = {**size, **speed, "latency_ms": latency.get("p50"), "latency_ms_p95": latency.get("p95")}
    values = {name: finite(flat.get(name)) for name in MEASURES_OF_SIZE_AND_SPEED}
    values |= _quality(model)
    ours, theirs = values.get(y), _quality(teacher or {}).get(y)
    values["retention"] = None
    if ours is not None and theirs is not None and ours > 0 and theirs > 0:
        values["retention"] = theirs / ours if y in LOWER_IS_BETTER else ours / theirs
    return values
