"""Budget questions: the best model within limits, or the nearest one and what it lacks."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from distill.core.errors import UserError
from distill.reporting.compare import Comparison
from distill.reporting.rows import OVER_SEEDS, Row
from distill.reporting.text import LOWER_IS_BETTER, label, short, significant, unit, with_interval

FACTORS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "%": 0.01}


@dataclass(frozen=True)
class Limit:
    """At most or at least so much of a measure."""

    name: str
    value: float
    at_most: bool

    def shortfall(self, row: Row) -> float | None:
        """By how much a row misses the limit, 0 within it, None where it was not measured."""
        value = row.values.get(self.name)
        if value is None:
            return None
        return max(0.0, value - self.value if self.at_most else self.value - value)

    def __str__(self) -> str:
        bound = "most" if self.at_most else "least"
        return f"{label(self.name)} at {bound} {_say(self.name, self.value)}"


@dataclass(frozen=True)
class Answer:
    """What a budget question found: ``row`` is the best within the limits, or the nearest."""

    within: bool
    row: Row | None
    text: str


def parse_limit(text: str, at_most: bool) -> Limit:
    """``latency_ms=5``, ``parameters=10M``, ``retention=98%``.

    Raises:
        UserError: not of this form.
    """
    name, _, number = text.partition("=")
    match = re.fullmatch(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)([kMG%]?)", number.strip())
    if not name.strip() or not match:
        raise UserError(f"{text!r} is not NAME=NUMBER, such as latency_ms=5 or parameters=10M")
    return Limit(name.strip(), float(match[1]) * FACTORS[match[2]], at_most)


def answer(comparison: Comparison, limits: Sequence[Limit]) -> Answer:
    """The best candidate within all limits, or the nearest.

    Where a limit is about the comparison's y, enough of it is known to be enough, and the best is
    the cheapest in x; otherwise it is the one with the best y. Nearest is the one whose misses,
    each relative to its limit, sum to the least.

    Raises:
        UserError: a limit on something that was not measured.
    """
    candidates = comparison.candidates
    known = dict.fromkeys(
        name for row in candidates for name, value in row.values.items() if value is not None
    )
    for limit in limits:
        if limit.name not in known:
            raise UserError(f"{limit.name} was not measured: choose from {', '.join(known)}")
    judged = [(row, [limit.shortfall(row) for limit in limits]) for row in candidates]
    measured = [(row, misses) for row, misses in judged if None not in misses]
    within = [row for row, misses in measured if not any(misses)]
    asked = " and ".join(map(str, limits))
    if within:
        row, text = _best(comparison, limits, within, asked)
    elif measured:
        row, text = _nearest(limits, measured, asked)
    else:
        row, text = None, f"No model was measured in all of {', '.join(x.name for x in limits)}."
    if left_out := len(candidates) - len(measured):
        text += f" Not judged, for want of a measurement: {left_out}."
    return Answer(bool(within), row, text)


def _best(
    comparison: Comparison, limits: Sequence[Limit], within: Sequence[Row], asked: str
) -> tuple[Row, str]:
    x, y = comparison.x, comparison.y
    enough = any(limit.name == y for limit in limits)

    def order(row: Row) -> tuple[float, float]:
        cost, quality = row.values.get(x), row.values.get(y)
        cost = math.inf if cost is None else cost
        worse = math.inf if quality is None else quality * (1 if y in LOWER_IS_BETTER else -1)
        return (cost, worse) if enough else (worse, cost)

    best, *others = sorted(within, key=order)
    named = dict.fromkeys([x, *([y] if y else []), *(limit.name for limit in limits)])
    text = (
        f"{_models(within)} {asked}. {'Fewest' if enough else 'Best'} {label(x if enough else y)}:"
        f" {_where(best)} with {', '.join(_fact(best, name) for name in named)}."
    )
    for limit in limits:
        _, low, high = best.interval(limit.name)
        edge = high if limit.at_most else low
        if edge is not None and (edge > limit.value if limit.at_most else edge < limit.value):
            luck = "another seed" if best.interval_over == OVER_SEEDS else "other test examples"
            text += (
                f" Its interval of {label(limit.name)} reaches past"
                f" {_say(limit.name, limit.value)}: with {luck} it may miss the limit."
            )
    if others:
        facts = ", ".join(_fact(others[0], name) for name in (x, y) if name)
        text += f" Next: {others[0].title} with {facts}."
    return best, text


def _nearest(
    limits: Sequence[Limit], measured: Sequence[tuple[Row, Sequence[float]]], asked: str
) -> tuple[Row, str]:
    def distance(judged: tuple[Row, Sequence[float]]) -> float:
        return sum(
            miss / (abs(limit.value) or 1.0) for miss, limit in zip(judged[1], limits, strict=True)
        )

    row, misses = min(measured, key=distance)
    lacks = [
        f"its {_fact(row, limit.name)} is {_say(limit.name, miss)} too"
        f" {'much' if limit.at_most else 'little'}"
        for limit, miss in zip(limits, misses, strict=True)
        if miss
    ]
    return row, f"No model has {asked}. Nearest is {_where(row)}: {'; '.join(lacks)}."


def _models(rows: Sequence[Row]) -> str:
    return f"{len(rows)} models have" if len(rows) > 1 else "1 model has"


def _where(row: Row) -> str:
    folders = [run["directory"] for run in row.runs]
    more = f" and {len(folders) - 1} more" if len(folders) > 1 else ""
    return f"{row.title} ({folders[0]}{more})"


def _fact(row: Row, name: str) -> str:
    """``accuracy 0.861 [0.845, 0.877]``, ``latency 3.7 ms``."""
    value = row.values.get(name)
    said = with_interval(*row.interval(name)) if name in row.intervals else _say(name, value)
    return f"{label(name)} {said}"


def _say(name: str, value: float | None) -> str:
    """A value of a measure with its unit, in no more digits than it takes."""
    if value is None or abs(value) >= 1000:
        return short(value)
    digits = significant(value) if abs(value) >= 1 else f"{value:.4f}"
    return (digits.rstrip("0").rstrip(".") if "." in digits else digits) + unit(name)
