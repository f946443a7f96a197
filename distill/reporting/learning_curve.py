"""Quality against the number of unlabeled texts, over the runs of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distill.reporting.quantities import quantity
from distill.reporting.schema import Role

if TYPE_CHECKING:
    from distill.reporting.compare import RunComparison
    from distill.reporting.comparison_rows import Row
    from distill.reporting.gather import Run

# Name of the split without labels in report.json.
UNLABELED = "unlabelled"
# Ends of the options by which the amount is varied.
_AMOUNTS = ("unlabeled", "unlabeled_limit", "unlabeled_neighbors")


@dataclass(frozen=True)
class CurvePoint:
    """Quality at an amount of unlabeled text, with its 95 % interval if there is one."""

    amount: int
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class LearningCurve:
    """The points of one model, which differ in the amount of unlabeled text alone.

    Attributes:
        role: role of the model.
        label: what tells the curve from others of its role; empty if there are none.
        points: by increasing amount, two or more.
    """

    role: str
    label: str
    points: tuple[CurvePoint, ...]


def learning_curves(comparison: RunComparison, runs: Sequence[Run]) -> list[LearningCurve]:
    """Return the curves of students and controls, none where the amount does not vary.

    Args:
        comparison: the comparison of the runs, in the metric of its front.
        runs: the compared runs, which say how many texts they used.
    """
    amounts = {run.directory: run.report.data.examples.get(UNLABELED, 0) for run in runs}
    found: dict[tuple[str, str], dict[int, CurvePoint]] = {}
    for row in comparison.rows:
        value, low, high = row.interval(comparison.y)
        used = {amounts[run.directory] for run in row.runs}
        if not (row.is_candidate or row.is_control) or value is None or len(used) > 1:
            continue
        amount = used.pop()
        point = CurvePoint(amount, value, low, high)
        found.setdefault((row.role, _label(row)), {}).setdefault(amount, point)
    curves = [
        LearningCurve(role, label, tuple(points[amount] for amount in sorted(points)))
        for (role, label), points in found.items()
        if len(points) > 1
    ]
    students = any(curve.role != Role.CONTROL for curve in curves)
    return curves if students else []


def describe_curves(curves: Sequence[LearningCurve], comparison: RunComparison, file: str) -> str:
    """Return the students' curves in words.

    Args:
        curves: result of :func:`learning_curves`.
        comparison: names the metric.
        file: name of the figure.
    """
    metric = quantity(comparison.y)
    texts = []
    for curve in curves:
        if curve.role == Role.CONTROL:
            continue
        points = ", ".join(
            f"{metric.format(point.value)} with {point.amount:,}" for point in curve.points
        )
        texts.append(f"{curve.label}: {points}" if curve.label else points)
    return f"{metric.label} by the number of unlabeled texts ({file}): {'; '.join(texts)}."


def _label(row: Row) -> str:
    return ", ".join(
        f"{key}={value}"
        for key, value in row.settings.items()
        if key.rpartition(".")[2] not in _AMOUNTS
    )
