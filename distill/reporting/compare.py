"""Comparison of many runs: groups over seeds, gains, the Pareto front and its hypervolume."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from distill.core.errors import UserError
from distill.reporting.comparison_rows import Row, build_rows
from distill.reporting.front import hypervolume, pareto_front
from distill.reporting.gain import apply_holm_correction
from distill.reporting.gather import Run, UnfinishedRun
from distill.reporting.group import group_runs
from distill.reporting.quantities import costs, is_interrupted, quantity
from distill.reporting.schema import DataInfo
from distill.reporting.text import words


@dataclass(frozen=True)
class Answer:
    """Answer to a budget question: the best row within the limits, or the nearest one."""

    within: bool
    row: Row | None
    text: str


@dataclass
class RunComparison:
    """Everything that the formats show.

    Attributes:
        task: The task of all runs.
        data: The data of the runs; all have the same test set.
        metric: The metric of the gains over the control.
        x: The cost on the front's x axis.
        y: The metric on its y axis.
        rows: All models, the cheapest first.
        front: The candidates on the front, the cheapest first.
        hypervolume: The fraction of the box that the front dominates, see :mod:`.front`.
        reference: (x, y) of the corner of that box.
        ideal: The best possible y, the opposite edge of the box.
        tested_gains: Number of tests in Holm's correction.
        unfinished: Runs that were found but are not among the rows.
        notes: What the reader must know when comparing.
        answer: The answer to a budget question, if one was asked.
    """

    task: str
    data: DataInfo
    metric: str | None
    x: str
    y: str | None
    rows: list[Row]
    front: list[Row]
    hypervolume: float | None
    reference: tuple[float, float] | None
    ideal: float
    tested_gains: int
    unfinished: list[UnfinishedRun]
    notes: list[str] = field(default_factory=list)
    answer: Answer | None = None

    @property
    def candidates(self) -> list[Row]:
        """The models to choose from: students and their variants."""
        return [row for row in self.rows if row.is_candidate]


def compare(
    runs: Sequence[Run],
    unfinished: Sequence[UnfinishedRun] = (),
    x: str = "parameters",
    y: str | None = None,
    reference: Mapping[str, float] | None = None,
) -> RunComparison:
    """Compare finished runs that were measured on the same test data.

    The front is over students and their variants: the teacher is their reference, and a control is
    not distilled.

    Args:
        runs: At least one.
        unfinished: Further runs that were found, to be listed.
        x: The cost that the front trades, see :func:`.quantities.costs`.
        y: The metric that it trades for; the runs' main metric where None.
        reference: Of the hypervolume, ``{x: ..., y: ...}``. Where not given, x is the cost of the
            costliest teacher (without a teacher, of the costliest candidate), and y is 0, or the
            worst value among all models where a lower y is better.

    Raises:
        UserError: Test data or tasks differ, or the cost or metric was not measured.
    """
    _check_comparable(runs)
    if x not in costs():
        raise UserError(f"--x {x} is not a cost that is measured: choose from {', '.join(costs())}")
    metrics = Counter(metric for run in runs if (metric := run.report.main_metric))
    metric = metrics.most_common(1)[0][0] if metrics else None
    y = y or metric
    groups, repeated = group_runs(runs)
    rows = build_rows(groups, metric, y)
    _check_measured(y, rows)
    lower = not quantity(y).higher_is_better

    def order(row: Row) -> tuple[bool, float, bool, float, str, str]:
        cost, score = row.value(x), row.value(y)
        better = (score if lower else -score) if score is not None else 0
        return (cost is None, cost or 0, score is None, better, row.name, row.role)

    rows.sort(key=order)
    candidates, points = [], []
    for row in rows:
        cost, score = row.value(x), row.value(y)
        if row.is_candidate and cost is not None and score is not None:
            candidates.append(row)
            points.append((cost, score))
    front = [candidates[i] for i in pareto_front(points, lower)]
    for row in front:
        row.on_front = True
    ideal = 0.0 if lower else 1.0
    corner = _reference(rows, x, y, reference or {})
    dominated = None
    if corner and points and corner[0] > 0 and corner[1] != ideal:
        dominated = hypervolume(points, corner, ideal, lower)
    return RunComparison(
        task=runs[0].report.task,
        data=runs[0].report.data,
        metric=metric,
        x=x,
        y=y,
        rows=rows,
        front=front,
        hypervolume=dominated,
        reference=corner,
        ideal=ideal,
        tested_gains=apply_holm_correction([row.gain for row in rows if row.gain]),
        unfinished=[*unfinished, *repeated],
        notes=_notes(runs, metric, metrics),
    )


def _check_comparable(runs: Sequence[Run]) -> None:
    tasks: dict[str, list[str]] = {}
    tests: dict[str, list[Run]] = {}
    for run in runs:
        tasks.setdefault(run.report.task, []).append(run.directory)
        tests.setdefault(str(run.report.data.fingerprint), []).append(run)
    if len(tasks) > 1:
        found = "; ".join(f"{task} in {_first(names)}" for task, names in tasks.items())
        raise UserError(f"runs of different tasks cannot be compared, give one task's: {found}")
    if len(tests) > 1:
        found = "; ".join(
            f"{alike[0].report.data.name} (fingerprint {fingerprint}) in"
            f" {_first([run.directory for run in alike])}"
            for fingerprint, alike in tests.items()
        )
        raise UserError(
            f"runs measured on different test data cannot be compared, give one set's: {found}"
        )


def _first(names: Sequence[str], limit: int = 3) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _check_measured(y: str | None, rows: Sequence[Row]) -> None:
    known = dict.fromkeys(name for row in rows for name in row.scores)
    if y is not None and y not in known:
        raise UserError(f"--y {y} was not measured: choose from {', '.join(known)}")


def _reference(
    rows: Sequence[Row], x: str, y: str | None, given: Mapping[str, float]
) -> tuple[float, float] | None:
    unknown = set(given) - {x, y}
    if unknown:
        raise UserError(f"--reference {min(unknown)}=... is neither the x ({x}) nor the y ({y})")
    teachers = [cost for row in rows if row.is_teacher and (cost := row.value(x))]
    models = [row for row in rows if not row.is_baseline]
    measured = teachers or [cost for row in models if (cost := row.value(x))]
    scores = [score for row in models if (score := row.value(y)) is not None]
    if y is None or not measured or not scores:
        return None
    worst = 0.0 if quantity(y).higher_is_better else max(scores)
    return given.get(x, max(measured)), given.get(y, worst)


def _notes(runs: Sequence[Run], metric: str | None, metrics: Mapping[str, int]) -> list[str]:
    """Return what differs between the runs and makes columns hard to compare."""
    notes = []
    if len(metrics) > 1:
        others = ", ".join(quantity(other).label for other in metrics if other != metric)
        notes.append(
            f"Gains are in {quantity(metric).label}; runs that compared in {others} show none."
        )
    conditions: tuple[tuple[str, Callable[[Run], object]], ...] = (
        ("speed", lambda run: getattr(run.report.environment, "processor", None)),
        ("speed", lambda run: _conditions(run, "speed", ("threads", "batch_size"))),
        ("multiply-accumulates", lambda run: _conditions(run, "size", ("sequence_length",))),
    )
    for what, condition in conditions:
        found = {str(value): None for run in runs if (value := condition(run))}
        if len(found) > 1:
            notes.append(f"Compare {what} with care, it was measured with {' / '.join(found)}.")
    models = [model for run in runs for model in run.report.models]
    if interrupted := sum(map(is_interrupted, models)):
        notes.append(
            f"Other programs interrupted the measurement of {interrupted} of {len(models)} models:"
            " their latency is too long, their processor time is not (--x cpu_ms)."
        )
    return notes


def _conditions(run: Run, section: str, names: Sequence[str]) -> str:
    """Return how the student was measured."""
    values = {
        name: getattr(getattr(run.report.student, section, None), name, None) for name in names
    }
    return ", ".join(f"{words(name)} {v}" for name, v in values.items() if v is not None)
