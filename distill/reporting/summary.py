"""What a comparison shows, and how to read it, in sentences."""

from __future__ import annotations

from itertools import pairwise

from distill.reporting.compare import Comparison
from distill.reporting.conclusion import SIGNIFICANCE
from distill.reporting.rows import OVER_SEEDS, Row
from distill.reporting.text import LOWER_IS_BETTER, difference_unit, label, score, short


def summarise(comparison: Comparison) -> list[str]:
    """The sentences that a decision needs: the front, what is on it, whether teaching helped."""
    sentences = []
    x, y, front = comparison.x, comparison.y, comparison.front
    if front:
        named = "; ".join(
            f"{row.title} ({short(row.values[x])}, {score(row.values[y])})" for row in front
        )
        sentences.append(
            f"On the front of {label(x)} and {label(y)} are {len(front)} of"
            f" {len(comparison.candidates)}: {named}."
        )
        alike = [f"{a.title} and {b.title}" for a, b in pairwise(front) if _overlap(a, b, y)]
        if alike:
            which = "all of them" if len(alike) == len(front) - 1 > 1 else "; ".join(alike)
            sentences.append(
                f"Neighbours on it whose intervals of {label(y)} overlap, so that the better one"
                f" may be so by luck: {which}."
            )
    if comparison.hypervolume is not None and comparison.reference is not None:
        cost, worst = comparison.reference
        sentences.append(
            f"Hypervolume {comparison.hypervolume:.3f}: the share that the front dominates of the"
            f" box from {label(x)} {short(cost)} and {label(y)} {score(worst)} to"
            f" {label(x)} 0 and {label(y)} {score(comparison.ideal)}."
        )
    sentences.append(_help(comparison))
    return [sentence for sentence in sentences if sentence]


def footnotes(comparison: Comparison) -> list[str]:
    """How to read the table."""
    several = {row.interval_over == OVER_SEEDS for row in comparison.candidates if row.intervals}
    over = {
        frozenset({True}): "over the seeds (Student's t): the luck of training, on these examples",
        frozenset({False}): "over the test examples (bootstrap): not the luck of training",
        frozenset({True, False}): "over the seeds (Student's t) where there are several, otherwise"
        " over the test examples (bootstrap)",
    }.get(frozenset(several))
    notes = [f"Intervals are 95 %, {over}."] if over else []
    gains = [row.gain for row in comparison.rows if row.gain]
    if gains and comparison.metric:
        unit = difference_unit(comparison.metric)
        notes.append(
            f"Gain: {label(comparison.metric)} minus that of the control, the same student trained"
            f" without the teacher{f', in{unit}' if unit else ''}; paired test, Holm-corrected over"
            f" {comparison.comparisons} comparison{'s' if comparison.comparisons != 1 else ''}."
        )
    return notes + comparison.notes


def front_title(comparison: Comparison) -> str:
    """What stands above the figure."""
    data, missing = comparison.data, len(comparison.unfinished)
    title = f"{data['name']}, {data['evaluated_on']} set"
    return f"{title}; {missing} not shown, see the table" if missing else title


def _help(comparison: Comparison) -> str:
    tested = [row.gain for row in comparison.rows if row.gain and row.gain.p_holm is not None]
    if not tested:
        return ""
    sign = -1 if comparison.metric in LOWER_IS_BETTER else 1
    shown = [gain.value * sign for gain in tested if gain.p_holm < SIGNIFICANCE]
    helped, hurt = sum(value > 0 for value in shown), sum(value < 0 for value in shown)
    return (
        f"Learning from the teacher, of {len(tested)} comparison{'s' if len(tested) > 1 else ''}"
        f" with a control: helped in {helped}, hurt in {hurt}, not shown either way in"
        f" {len(tested) - len(shown)} (Holm-corrected p < {SIGNIFICANCE})."
    )


def _overlap(a: Row, b: Row, metric: str | None) -> bool:
    if metric is None:
        return False
    (_, low_a, high_a), (_, low_b, high_b) = a.interval(metric), b.interval(metric)
    if None in (low_a, high_a, low_b, high_b):
        return False
    return low_a <= high_b and low_b <= high_a
