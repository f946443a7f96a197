"""Many runs, one comparison: groups over seeds, gains, the front and what it dominates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.core.errors import UserError
from distill.reporting.conclusion import main_metric
from distill.reporting.front import hypervolume, pareto_front
from distill.reporting.gain import correct
from distill.reporting.gather import Run, Unfinished, gather
from distill.reporting.group import group
from distill.reporting.rows import COSTS, Row, build_rows
from distill.reporting.text import LOWER_IS_BETTER, label

if TYPE_CHECKING:
    from distill.reporting.budget import Answer


@dataclass
class Comparison:
    """What every format shows.

    Attributes:
        task: The task of all runs.
        data: The ``data`` of the reports, the same test set in all.
        metric: The metric of the gains over the control.
        x: The cost on the front's x axis, one of ``COSTS``.
        y: The metric on its y axis.
        rows: All models, the cheapest first.
        front: The candidates on the front, the cheapest first.
        hypervolume: The share of the box that the front dominates, see :mod:`.front`.
        reference: (x, y) of the point that bounds the hypervolume.
        ideal: The best y there is, the opposite edge of the box.
        comparisons: How many tests Holm's correction is over.
        unfinished: What was found but is not among the rows.
        notes: What the reader must know when comparing.
        answer: The answer to a budget question, if one was asked.
    """

    task: str
    data: dict[str, Any]
    metric: str | None
    x: str
    y: str | None
    rows: list[Row]
    front: list[Row]
    hypervolume: float | None
    reference: tuple[float, float] | None
    ideal: float
    comparisons: int
    unfinished: list[Unfinished]
    notes: list[str] = field(default_factory=list)
    answer: Answer | None = None

    @property
    def candidates(self) -> list[Row]:
        """The models to choose from: students and their variants."""
        return [row for row in self.rows if row.is_candidate]


def compare(
    runs: Sequence[Run],
    unfinished: Sequence[Unfinished] = (),
    x: str = "parameters",
    y: str | None = None,
    reference: Mapping[str, float] | None = None,
) -> Comparison:
    """Compare finished runs that were measured on the same test data.

    The front is over students and their variants: the teacher is what they are held against, and
    a control is not distilled.

    Args:
        runs: At least one.
        unfinished: What else was found, to be listed.
        x: The cost that the front trades, one of ``COSTS``.
        y: The metric that it trades for; the runs' main metric where None.
        reference: Of the hypervolume, ``{x: ..., y: ...}``. What is not given is the costliest
            teacher's cost (without a teacher, the costliest candidate's), and for y 0, or the
            worst value among all models where a lower y is better.

    Raises:
        UserError: test data or tasks differ, no such cost or metric.
    """
    _refuse_to_mix(runs)
    if x not in COSTS:
        raise UserError(f"--x {x} is not a cost that is measured: choose from {', '.join(COSTS)}")
    metrics = Counter(metric for run in runs if (metric := main_metric(run.report)))
    metric = metrics.most_common(1)[0][0] if metrics else None
    y = y or metric
    groups, repeated = group(runs)
    rows = build_rows(groups, metric, y)
    _refuse_unknown(y, rows)
    lower = y in LOWER_IS_BETTER

    def order(row: Row) -> tuple:
        cost, score = row.values.get(x), row.values.get(y)
        better = (score if lower else -score) if score is not None else 0
        return (cost is None, cost or 0, score is None, better, row.name, row.role)

    rows.sort(key=order)
    candidates = [
        row
        for row in rows
        if row.is_candidate and None not in (row.values.get(x), row.values.get(y))
    ]
    points = [(row.values[x], row.values[y]) for row in candidates]
    front = [candidates[i] for i in pareto_front(points, lower)]
    for row in front:
        row.on_front = True
    ideal = 0.0 if lower else 1.0
    bound = _reference(rows, x, y, reference or {})
    share = None
    if bound and points and bound[0] > 0 and bound[1] != ideal:
        share = hypervolume(points, bound, ideal, lower)
    return Comparison(
        task=runs[0].report["task"],
        data=runs[0].report["data"],
        metric=metric,
        x=x,
        y=y,
        rows=rows,
        front=front,
        hypervolume=share,
        reference=bound,
        ideal=ideal,
        comparisons=correct([row.gain for row in rows if row.gain]),
        unfinished=[*unfinished, *repeated],
        notes=_notes(runs, metric, metrics),
    )


def write_sweep(directory: Path, out: Path | None = None, x: str = "parameters") -> str:
    """Write sweep.md, .csv, .json, .html and front.png for the runs under ``directory``.

    Meant to be called after each finished job of a sweep: runs that are not finished are listed.
    A sweep over several test sets has a set of files for each, ``sweep-DATA.md`` and so on.

    Args:
        directory: The sweep's folder.
        out: Where the files go; ``directory`` where None.
        x: The cost that the front trades.

    Returns:
        The table for the terminal.
    """
    from distill.reporting.formats import render, save, terminal_width

    out = out or directory
    out.mkdir(parents=True, exist_ok=True)
    runs, unfinished = gather([directory])
    parts: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        parts.setdefault(_measured_on(run), []).append(run)
    if not parts:
        return "\n".join(["No run has finished yet.", *map(str, unfinished)])
    texts = []
    for key, part in parts.items():
        comparison = compare(part, unfinished, x)
        name = f"-{_part_name(key, parts)}" if len(parts) > 1 else ""
        for suffix in ("md", "csv", "json", "html"):
            save(comparison, out / f"sweep{name}.{suffix}")
        save(comparison, out / f"front{name}.png")
        texts.append(render(comparison, "table", terminal_width()))
    return "\n\n".join(texts)


def _measured_on(run: Run) -> tuple[str, str, str]:
    data = run.report["data"]
    return run.report["task"], str(data["name"]), str(data["fingerprint"])


def _part_name(key: tuple[str, str, str], keys: Mapping[tuple[str, str, str], Any]) -> str:
    """The data's name, with the fingerprint's start where two test sets share it."""
    alone = sum(name == key[1] for _, name, _ in keys) == 1
    name = key[1] if alone else f"{key[1]}-{key[0]}-{key[2][:8]}"
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)


def _refuse_to_mix(runs: Sequence[Run]) -> None:
    tasks: dict[str, list[str]] = {}
    tests: dict[str, list[Run]] = {}
    for run in runs:
        tasks.setdefault(run.report["task"], []).append(run.directory)
        tests.setdefault(str(run.report["data"]["fingerprint"]), []).append(run)
    if len(tasks) > 1:
        found = "; ".join(f"{task} in {_some(names)}" for task, names in tasks.items())
        raise UserError(f"runs of different tasks cannot be compared, give one task's: {found}")
    if len(tests) > 1:
        found = "; ".join(
            f"{alike[0].report['data']['name']} (fingerprint {fingerprint}) in"
            f" {_some([run.directory for run in alike])}"
            for fingerprint, alike in tests.items()
        )
        raise UserError(
            f"runs measured on different test data cannot be compared, give one set's: {found}"
        )


def _some(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _refuse_unknown(y: str | None, rows: Sequence[Row]) -> None:
    known = dict.fromkeys(name for row in rows for name in row.scores)
    if y is not None and y not in known:
        raise UserError(f"--y {y} was not measured: choose from {', '.join(known)}")


def _reference(
    rows: Sequence[Row], x: str, y: str | None, given: Mapping[str, float]
) -> tuple[float, float] | None:
    unknown = set(given) - {x, y}
    if unknown:
        raise UserError(f"--reference {min(unknown)}=... is neither the x ({x}) nor the y ({y})")
    costs = [row.values[x] for row in rows if row.role == "teacher" and row.values.get(x)]
    costs = costs or [row.values[x] for row in rows if row.values.get(x)]
    scores = [score for row in rows if (score := row.values.get(y)) is not None]
    if not costs or not scores:
        return None
    worst = max(scores) if y in LOWER_IS_BETTER else 0.0
    return given.get(x, max(costs)), given.get(y, worst)


def _notes(runs: Sequence[Run], metric: str | None, metrics: Counter) -> list[str]:
    """What differs between the runs in a way that makes columns hard to compare."""
    notes = []
    if len(metrics) > 1:
        others = ", ".join(label(other) for other in metrics if other != metric)
        notes.append(f"Gains are in {label(metric)}; runs that compared in {others} show none.")
    for what, of in (
        ("speed", lambda run: (run.report.get("environment") or {}).get("processor")),
        ("speed", lambda run: _conditions(run, "speed", ("threads", "batch_size"))),
        ("multiply-accumulates", lambda run: _conditions(run, "size", ("sequence_length",))),
    ):
        found = {str(value): None for run in runs if (value := of(run))}
        if len(found) > 1:
            notes.append(f"Compare {what} with care, it was measured with {' / '.join(found)}.")
    return notes


def _conditions(run: Run, part: str, names: Sequence[str]) -> str:
    student = next((m for m in run.report["models"] if m["role"] == "student"), None)
    values = (student or {}).get(part) or {}
    return ", ".join(f"{label(n)} {values[n]}" for n in names if values.get(n) is not None)
