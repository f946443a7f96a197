"""Budget questions: the best model within limits, or the nearest one and what it misses."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from distill.core.errors import UserError
from distill.reporting.compare import Answer, RunComparison
from distill.reporting.comparison_rows import OVER_BOTH, OVER_SEEDS, Row
from distill.reporting.quantities import SCORES, quantity
from distill.reporting.text import short, significant, with_interval

FACTORS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "%": 0.01}


@dataclass(frozen=True)
class Limit:
    """An upper or lower limit on a measured quantity."""

    name: str
    value: float
    at_most: bool

    def shortfall(self, row: Row) -> float | None:
        """Return by how much a row misses the limit; 0 within it, None where not measured."""
        value = row.value(self.name)
        if value is None:
            return None
        return max(0.0, value - self.value if self.at_most else self.value - value)

    def __str__(self) -> str:
        bound = "most" if self.at_most else "least"
        return f"{quantity(self.name).label} at {bound} {_with_unit(self.name, self.value)}"


def parse_limit(text: str, at_most: bool) -> Limit:
    """Parse ``latency_ms=5``, ``parameters=10M`` or ``retention=98%``.

    Raises:
        UserError: The text is not of this form.
    """
    name, _, number = text.partition("=")
    match = re.fullmatch(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)([kMG%]?)", number.strip())
    if not name.strip() or not match:
        raise UserError(f"{text!r} is not NAME=NUMBER, such as latency_ms=5 or parameters=10M")
    return Limit(name.strip(), float(match[1]) * FACTORS[match[2]], at_most)


def answer(comparison: RunComparison, limits: Sequence[Limit]) -> Answer:
    """Find the best candidate within all limits, or the nearest.

    Where a limit is on the comparison's y, reaching it is enough, and the best candidate is the
    cheapest in x; otherwise it is the one with the best y. The nearest is the one whose misses,
    each relative to its limit, have the smallest sum.

    Raises:
        UserError: A limit is on something that was not measured.
    """
    candidates = comparison.candidates
    known = dict.fromkeys(
        name for row in candidates for name, value in row.values.items() if value is not None
    )
    for limit in limits:
        if limit.name not in known:
            raise UserError(f"{limit.name} was not measured: choose from {', '.join(known)}")
    measured: list[tuple[Row, list[float]]] = []
    for row in candidates:
        shortfalls = [limit.shortfall(row) for limit in limits]
        known_shortfalls = [shortfall for shortfall in shortfalls if shortfall is not None]
        if len(known_shortfalls) == len(limits):
            measured.append((row, known_shortfalls))
    within = [row for row, shortfalls in measured if not any(shortfalls)]
    asked = " and ".join(map(str, limits))
    best: Row | None = None
    if within:
        # A limit on a score has chosen among all that were judged, not only among those within.
        compared = len(measured) if any(map(_is_of_examples, limits)) else len(within)
        best, text = _best(comparison, limits, within, asked, compared)
    elif measured:
        best, text = _nearest(comparison, limits, measured, asked)
    else:
        text = f"No model was measured in all of {', '.join(limit.name for limit in limits)}."
    if left_out := len(candidates) - len(measured):
        text += f" Not judged, for want of a measurement: {left_out}."
    return Answer(bool(within), best, text)


def _is_of_examples(limit: Limit) -> bool:
    """Whether the limited quantity is measured on the test examples: not a size or a speed."""
    return quantity(limit.name).kind in SCORES or limit.name == "retention"


def _best(
    comparison: RunComparison,
    limits: Sequence[Limit],
    within: Sequence[Row],
    asked: str,
    compared: int,
) -> tuple[Row, str]:
    x, y = comparison.x, comparison.y
    enough = any(limit.name == y for limit in limits)

    def order(row: Row) -> tuple[float, float]:
        cost, score = row.value(x), row.value(y)
        cost = math.inf if cost is None else cost
        sign = -1 if quantity(y).higher_is_better else 1
        worse = math.inf if score is None else sign * score
        return (cost, worse) if enough else (worse, cost)

    best, *others = sorted(within, key=order)
    named = dict.fromkeys([x, *([y] if y else []), *(limit.name for limit in limits)])
    criterion = f"Fewest {quantity(x).label}" if enough else f"Best {quantity(y).label}"
    facts = ", ".join(_fact(best, name) for name in named)
    text = f"{_models(within)} {asked}. {criterion}: {_where(best)} with {facts}."
    for limit in limits:
        _, low, high = best.interval(limit.name)
        edge = high if limit.at_most else low
        if edge is not None and (edge > limit.value if limit.at_most else edge < limit.value):
            luck = {OVER_SEEDS: "another seed", OVER_BOTH: "another seed or other test examples"}
            other = luck.get(best.interval_over, "other test examples")
            text += (
                f" Its interval of {quantity(limit.name).label} reaches past"
                f" {_with_unit(limit.name, limit.value)}: with {other} it may miss the limit."
            )
    if compared > 1:
        text += _chosen_on_test(comparison, f"the best of {compared} looks a little better")
    if others:
        facts = ", ".join(_fact(others[0], name) for name in (x, y) if name)
        text += f" Next: {others[0].title} with {facts}."
    return best, text


def _chosen_on_test(comparison: RunComparison, flattered: str) -> str:
    """Say that the answer was chosen by the scores that it is then described with."""
    return (
        f" Chosen on the {comparison.data.evaluated_on} examples themselves: {flattered} there than"
        " it is, fresh examples tell."
    )


def _nearest(
    comparison: RunComparison,
    limits: Sequence[Limit],
    measured: Sequence[tuple[Row, Sequence[float]]],
    asked: str,
) -> tuple[Row, str]:
    def distance(candidate: tuple[Row, Sequence[float]]) -> float:
        return sum(
            shortfall / (abs(limit.value) or 1.0)
            for shortfall, limit in zip(candidate[1], limits, strict=True)
        )

    row, shortfalls = min(measured, key=distance)
    misses = [
        f"its {_fact(row, limit.name)} is {_with_unit(limit.name, shortfall)} too"
        f" {'much' if limit.at_most else 'little'}"
        for limit, shortfall in zip(limits, shortfalls, strict=True)
        if shortfall
    ]
    text = f"No model has {asked}. Nearest is {_where(row)}: {'; '.join(misses)}."
    if len(measured) > 1 and any(map(_is_of_examples, limits)):
        text += _chosen_on_test(
            comparison, f"the nearest of {len(measured)} looks a little nearer to what was asked"
        )
    return row, text


def _models(rows: Sequence[Row]) -> str:
    return f"{len(rows)} models have" if len(rows) > 1 else "1 model has"


def _where(row: Row) -> str:
    folders = list(dict.fromkeys(run.directory for run in row.runs))
    more = f" and {len(folders) - 1} more" if len(folders) > 1 else ""
    return f"{row.title} ({folders[0]}{more})"


def _fact(row: Row, name: str) -> str:
    """Write ``accuracy 0.861 [0.845, 0.877]`` or ``latency 3.7 ms``."""
    has_interval = name in row.intervals
    value = (
        with_interval(*row.interval(name)) if has_interval else _with_unit(name, row.value(name))
    )
    return f"{quantity(name).label} {value}"


def _with_unit(name: str, value: float | None) -> str:
    """Write a value with its unit, without trailing zeros."""
    if value is None or abs(value) >= 1000:
        return short(value)
    digits = significant(value) if abs(value) >= 1 else f"{value:.4f}"
    number = digits.rstrip("0").rstrip(".") if "." in digits else digits
    return f"{number} {quantity(name).unit}".rstrip()
