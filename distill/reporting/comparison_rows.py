"""Lines of the comparison: each is a model, averaged over the seeds of its training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distill.metrics.statistics import mean_interval
from distill.reporting.gain import Gain, combine_gains
from distill.reporting.gather import Run
from distill.reporting.group import RunGroup
from distill.reporting.quantities import SCORES, of_kinds, quantity
from distill.reporting.schema import BASELINES, Difference, ModelReport, Role
from distill.reporting.text import finite

OVER_EXAMPLES = "test examples"
OVER_SEEDS = "seeds"

Values = dict[str, float | None]


@dataclass(frozen=True)
class RunValues:
    """What one run measured of a model."""

    directory: str
    seed: int | None
    values: Values


@dataclass
class Row:
    """A model of a group of runs that differ only by seed.

    Attributes:
        name: The group's name; for a teacher, the model's.
        role: Role of the model, or a variant such as ``student_int8``.
        settings: Settings in which the compared groups differ; empty for a teacher.
        runs: The values of each run.
        values: Means over the runs; None where a quantity was not measured.
        intervals: 95 % intervals (low, high) of the values that have one.
        interval_over: ``seeds`` (Student's t) or ``test examples`` (bootstrap of a single run).
        gain: Of a student over its control.
        on_front: Whether no other student is at least as good and as cheap.
    """

    name: str
    role: str
    settings: dict[str, str]
    runs: list[RunValues]
    values: Values
    intervals: dict[str, tuple[float, float]]
    interval_over: str
    gain: Gain | None = None
    on_front: bool = False

    @property
    def title(self) -> str:
        """The name, with the role unless it is a plain student: ``half-kd (int8)``."""
        role = self.role.removeprefix(Role.STUDENT).removeprefix("_")
        return f"{self.name} ({role})" if role else self.name

    @property
    def short_title(self) -> str:
        """The title in figures: the name of a teacher, the role of a baseline."""
        return self.role if self.is_baseline else self.name if self.is_teacher else self.title

    @property
    def scores(self) -> list[str]:
        """Names of the measures of quality, calibration and fidelity."""
        return [name for name in self.values if quantity(name).kind in SCORES]

    @property
    def is_teacher(self) -> bool:
        """Whether this is a teacher."""
        return self.role == Role.TEACHER

    @property
    def is_control(self) -> bool:
        """Whether this is a control."""
        return self.role == Role.CONTROL

    @property
    def is_baseline(self) -> bool:
        """Whether this is a baseline: the same for all runs on the data."""
        return self.role in BASELINES

    @property
    def is_reference(self) -> bool:
        """Whether this is one of the models that students of several runs are compared with."""
        return self.is_teacher or self.is_baseline

    @property
    def is_candidate(self) -> bool:
        """Whether this is a model to choose from: no teacher, control or baseline."""
        return not (self.is_reference or self.is_control)

    def value(self, name: str | None) -> float | None:
        """Return the value of a quantity."""
        return self.values.get(name or "")

    def interval(self, name: str | None) -> tuple[float | None, float | None, float | None]:
        """Return (value, low, high) of a quantity."""
        return (self.value(name), *self.intervals.get(name or "", (None, None)))


def build_rows(groups: Sequence[RunGroup], metric: str | None, y: str | None) -> list[Row]:
    """Return a row for every model of every group, and for each teacher and baseline once.

    Args:
        groups: Runs that differ only by seed.
        metric: Metric of the gains; a run that used another one has no gain here.
        y: Metric of ``retention``.
    """
    rows = []
    for group in groups:
        roles = dict.fromkeys(model.role for run in group.runs for model in run.report.models)
        for role in roles:
            if role == Role.TEACHER:
                continue
            found = [(run, model) for run in group.runs if (model := run.report.model(role))]
            row = _row(group.name, role, group.settings, found, y)
            if role == Role.STUDENT:
                row.gain = combine_gains([_gain(run, metric) for run, _ in found])
            rows.append(row)
    return rows + [row for role in (Role.TEACHER, *BASELINES) for row in _shared(groups, role, y)]


def _shared(groups: Sequence[RunGroup], role: Role, y: str | None) -> list[Row]:
    """Return each teacher once: runs that share one measured the same model, not samples of it.

    The same holds for each baseline.
    """
    found: dict[tuple[str | None, float | None], list[tuple[Run, ModelReport]]] = {}
    for run in (run for group in groups for run in group.runs):
        if model := run.report.model(role):
            key = (model.name, quantity("parameters").read(model))
            found.setdefault(key, []).append((run, model))
    rows = []
    for (name, _), uses in found.items():
        distinct = {_own_scores(model): (run, model) for run, model in uses}
        row = _row(name or role, role, {}, list(distinct.values()), y)
        everywhere = _row(row.name, role, {}, uses, y)
        for measured in of_kinds("size", "speed"):
            row.values[measured.name] = everywhere.values[measured.name]
        rows.append(row)
    return rows


def _own_scores(model: ModelReport) -> tuple[tuple[str, float | None], ...]:
    """Return the scores that do not depend on another model."""
    fidelity = set(model.fidelity or ())
    return tuple((name, value) for name, value in model.scores.items() if name not in fidelity)


def _row(
    name: str,
    role: str,
    settings: Mapping[str, str],
    found: Sequence[tuple[Run, ModelReport]],
    y: str | None,
) -> Row:
    measured = [_values(model, run.report.teacher, y) for run, model in found]
    scores = dict.fromkeys(score for _, model in found for score in model.scores)
    values: Values = {}
    intervals: dict[str, tuple[float, float]] = {}
    for measure in dict.fromkeys(measure for of_run in measured for measure in of_run):
        numbers = [n for of_run in measured if (n := of_run.get(measure)) is not None]
        values[measure] = None
        if numbers:
            values[measure], low, high = mean_interval(numbers)
            if measure in scores and low is not None and high is not None:
                intervals[measure] = (low, high)
    if len(found) == 1:
        for metric, measurement in found[0][1].quality.items():
            if measurement.low is not None and measurement.high is not None:
                intervals[metric] = (measurement.low, measurement.high)
    runs = [
        RunValues(run.directory, run.seed, of_run)
        for (run, _), of_run in zip(found, measured, strict=True)
    ]
    over = OVER_SEEDS if len(found) > 1 else OVER_EXAMPLES
    return Row(name, str(role), dict(settings), runs, values, intervals, over)


def _gain(run: Run, metric: str | None) -> Difference:
    comparison = run.report.comparison
    if comparison is None or comparison.metric != metric:
        return Difference()
    return run.report.gain_over_control


def _values(model: ModelReport, teacher: ModelReport | None, y: str | None) -> Values:
    """Return everything that was measured of one model."""
    values = {measured.name: measured.read(model) for measured in of_kinds("size", "speed")}
    values |= {name: finite(value) for name, value in model.scores.items()}
    scaled = ((one.name, one.read(model)) for one in of_kinds("calibration"))
    values |= {name: value for name, value in scaled if value is not None}
    own, reference = values.get(y or ""), teacher.scores.get(y or "") if teacher else None
    values["retention"] = None
    if own is not None and reference is not None and own > 0 and reference > 0:
        values["retention"] = quantity(y).retention(own, reference)
    return values
