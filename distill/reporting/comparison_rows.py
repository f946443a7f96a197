"""Lines of the comparison: each is a model, averaged over the seeds of its training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from distill.metrics.statistics import mean_interval
from distill.reporting.gain import Gain, combine_gains
from distill.reporting.gather import Run
from distill.reporting.group import RunGroup
from distill.reporting.quantities import SCORES, of_kinds, quantity, speedup
from distill.reporting.schema import (
    BASELINES,
    Calibration,
    Difference,
    Fidelity,
    MetricValue,
    ModelReport,
    Role,
)
from distill.reporting.text import finite

OVER_EXAMPLES = "test examples"
OVER_SEEDS = "seeds"
OVER_BOTH = "seeds and test examples"

SHARED = (Role.TEACHER, *BASELINES)
"""Roles of models that several runs share."""

Values = dict[str, float | None]


@dataclass(frozen=True)
class RunValues:
    """What one run measured of a model; a run of several seeds, of that of each seed.

    Its size and speed, and what was measured of one seed alone, are those of the first seed.
    """

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
        runs: The values of each seed.
        values: Means over the seeds; None where a quantity was not measured.
        intervals: 95 % intervals (low, high) of the values that have one.
        interval_over: ``seeds`` (Student's t), ``test examples`` (bootstrap of a single seed) or
            ``seeds and test examples``: the metric of the gains, of a single run of several seeds;
            the others are then over the seeds.
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
                row.gain = combine_gains(_gains([run for run, _ in found], metric))
            rows.append(row)
    return rows + [row for role in SHARED for row in _shared(groups, role, y)]


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
    runs = [one for run, model in found for one in _of_each_seed(run, model, y)]
    if role not in SHARED:  # seeds that two runs have in common are no further draws
        runs = list({one.seed: one for one in runs}.values())
    measured = [one.values for one in runs]
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
    over = OVER_SEEDS if len(runs) > 1 else OVER_EXAMPLES
    if len(found) == 1:
        ((run, model),) = found
        comparison = run.report.comparison
        of_run: Mapping[str, MetricValue] = model.quality
        if len(runs) > 1 and comparison is not None and role in comparison.means:
            of_run, over = {comparison.metric or "": comparison.means[role]}, OVER_BOTH
        elif len(runs) > 1:
            of_run = {}
        for metric, measurement in of_run.items():
            if measurement.low is not None and measurement.high is not None:
                intervals[metric] = (measurement.low, measurement.high)
    return Row(name, str(role), dict(settings), runs, values, intervals, over)


def _of_each_seed(run: Run, model: ModelReport, y: str | None) -> list[RunValues]:
    """Return the values of a model of each seed that the run has trained it on."""
    teacher = run.report.teacher
    repeated = [
        (repeat.seed, of_seed)
        for repeat in run.report.repeats
        if (of_seed := repeat.models.get(model.role))
    ]
    if len(repeated) < 2:
        return [RunValues(run.directory, run.seed, _values(model, teacher, y))]
    found = []
    for seed, of_seed in repeated:
        one = replace(
            model,
            quality={name: MetricValue(value) for name, value in of_seed.quality.items()},
            calibration=Calibration(of_seed.calibration),
            fidelity=Fidelity(of_seed.fidelity),
            temperature_scaling=model.temperature_scaling if seed == run.seed else None,
        )
        found.append(RunValues(run.directory, seed, _values(one, teacher, y)))
    return found


def _gains(runs: Sequence[Run], metric: str | None) -> list[Difference]:
    """Return the gain of a single run as it is, and of several, the gain of each seed.

    The interval of a run of several seeds counts seeds and examples. What the examples count for is
    not known alone: each of its seeds gets the width of the whole, which is no less.
    """
    compared = [
        run
        for run in runs
        if run.report.comparison is not None and run.report.comparison.metric == metric
    ]
    if len(compared) == 1:
        return [compared[0].report.gain_over_control]
    found: dict[object, Difference] = {}
    for run in compared:
        gain = run.report.gain_over_control
        values = _gains_by_seed(run, metric)
        if gain.value is None or len(values) < 2:
            found[run.seed] = gain
            continue
        for seed, value in values.items():
            moved = value - gain.value
            found[seed] = Difference(
                value=value,
                low=None if gain.low is None else gain.low + moved,
                high=None if gain.high is None else gain.high + moved,
                seeds=1,
            )
    return list(found.values())


def _gains_by_seed(run: Run, metric: str | None) -> dict[int, float]:
    """Return the student's metric minus the control's, of each of several seeds of a run."""
    gains = {}
    for repeat in run.report.repeats:
        pair = [repeat.models.get(role) for role in (Role.STUDENT, Role.CONTROL)]
        values = [one.quality.get(metric or "") for one in pair if one is not None]
        student, control = values if len(values) == 2 else (None, None)
        if student is not None and control is not None:
            gains[repeat.seed] = student - control
    return gains


def _values(model: ModelReport, teacher: ModelReport | None, y: str | None) -> Values:
    """Return everything that was measured of one model."""
    values = {measured.name: measured.read(model) for measured in of_kinds("size", "speed")}
    values |= {name: finite(value) for name, value in model.scores.items()}
    scaled = ((one.name, one.read(model)) for one in of_kinds("calibration"))
    values |= {name: value for name, value in scaled if value is not None}
    own, reference = values.get(y or ""), teacher.scores.get(y or "") if teacher else None
    values["speedup"] = speedup(teacher, model)[0] if teacher else None
    values["retention"] = None
    if own is not None and reference is not None and own > 0 and reference > 0:
        values["retention"] = quantity(y).retention(own, reference)
    return values
