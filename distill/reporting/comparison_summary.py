"""What a comparison of runs shows, and how to read it, in sentences."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from distill.reporting.conclusion import SIGNIFICANCE
from distill.reporting.quantities import quantity
from distill.reporting.text import percent, score, short

if TYPE_CHECKING:
    from distill.reporting.compare import RunComparison
    from distill.reporting.comparison_rows import Row
    from distill.reporting.gain import Gain


def summarize(comparison: RunComparison) -> list[str]:
    """Return the findings: the front, the models on it, whether the teacher helped."""
    sentences = []
    x, y, front = quantity(comparison.x), quantity(comparison.y), comparison.front
    if front:
        named = "; ".join(
            f"{row.title} ({short(row.value(x.name))}, {score(row.value(y.name))})" for row in front
        )
        sentences.append(
            f"On the front of {x.label} and {y.label} are {len(front)} of"
            f" {len(comparison.candidates)}: {named}."
        )
        alike = [f"{a.title} and {b.title}" for a, b in pairwise(front) if _overlap(a, b, y.name)]
        if alike:
            which = "all of them" if len(alike) == len(front) - 1 > 1 else "; ".join(alike)
            sentences.append(
                f"Neighbors on it whose intervals of {y.label} overlap, so that the better one"
                f" may be so by luck: {which}."
            )
    is_front = len(comparison.candidates) > 1
    if is_front and comparison.hypervolume is not None and comparison.reference is not None:
        cost, worst = comparison.reference
        sentences.append(
            f"Hypervolume {comparison.hypervolume:.3f}, a single number for the whole front: of all"
            f" combinations of {x.label} from 0 to {short(cost)} and {y.label} from {score(worst)}"
            f" to {score(comparison.ideal)}, some model of the front is at least as good in both"
            f" in {percent(comparison.hypervolume)}. It serves to compare fronts over the same"
            " ranges; larger is better."
        )
    sentences.append(_teaching(comparison))
    return [sentence for sentence in sentences if sentence]


def footnotes(comparison: RunComparison) -> list[str]:
    """Return remarks on how to read the table."""
    notes = [_intervals(comparison)]
    gains = [row.gain for row in comparison.rows if row.gain]
    if gains and comparison.metric:
        metric, tests = quantity(comparison.metric), comparison.tested_gains
        unit = metric.difference_unit
        notes.append(
            f"Gain: {metric.label} minus that of the control, the same student trained"
            f" without the teacher{f', in{unit}' if unit else ''}; paired test, Holm-corrected over"
            f" {tests} comparison{'s' if tests != 1 else ''}."
        )
        if any(_excludes_0(gain) and (gain.p_holm or 0) >= SIGNIFICANCE for gain in gains):
            notes.append(
                "The interval of a gain is that of a single comparison, before the correction: it"
                " may exclude 0 beside a p (Holm) that shows nothing, because among many"
                " comparisons some such intervals arise by chance."
            )
    return [note for note in notes if note] + comparison.notes


def _intervals(comparison: RunComparison) -> str:
    """Say what the intervals cover."""
    from distill.reporting.comparison_rows import OVER_EXAMPLES, OVER_SEEDS

    covered = {row.interval_over for row in comparison.candidates if row.intervals}
    if covered <= {OVER_SEEDS, OVER_EXAMPLES}:
        over = {
            frozenset({OVER_SEEDS}): "over the seeds (Student's t): the luck of training, on these"
            " examples",
            frozenset({OVER_EXAMPLES}): "over the test examples (bootstrap): not the luck of"
            " training",
            frozenset({OVER_SEEDS, OVER_EXAMPLES}): "over the seeds (Student's t) where there are"
            " several, otherwise over the test examples (bootstrap)",
        }.get(frozenset(covered))
        return f"Intervals are 95 %, {over}." if over else ""
    parts = [
        f"over seeds and test examples where one run has several seeds (repeats); what is not"
        f" {quantity(comparison.metric).label}, over the seeds alone"
    ]
    if OVER_SEEDS in covered:
        parts.append("over the seeds (Student's t) where several runs are taken together")
    if OVER_EXAMPLES in covered:
        parts.append("over the test examples (bootstrap) where there is one seed")
    return f"Intervals are 95 %, {'; '.join(parts)}."


def _excludes_0(gain: Gain) -> bool:
    return gain.low is not None and gain.high is not None and (gain.low > 0 or gain.high < 0)


def front_title(comparison: RunComparison) -> str:
    """Return the title of the figure."""
    data, missing = comparison.data, len(comparison.unfinished)
    title = f"{data.name}, {data.evaluated_on} set"
    return f"{title}; {missing} not shown, see the table" if missing else title


def _teaching(comparison: RunComparison) -> str:
    gains = [row.gain for row in comparison.rows if row.gain]
    tested = [
        (gain.value, gain.p_holm)
        for gain in gains
        if gain.shows_teaching and gain.p_holm is not None
    ]
    one_seed = of_one_seed(sum(not gain.shows_teaching for gain in gains))
    if not tested:
        return one_seed
    metric = quantity(comparison.metric)
    shown = [value for value, p_holm in tested if p_holm < SIGNIFICANCE]
    helped = sum(metric.is_better(value, 0) for value in shown)
    hurt = sum(metric.is_better(0, value) for value in shown)
    return (
        f"Learning from the teacher, of {len(tested)} comparison{'s' if len(tested) > 1 else ''}"
        f" with a control: helped in {helped}, hurt in {hurt}, not shown either way in"
        f" {len(tested) - len(shown)} (Holm-corrected p < {SIGNIFICANCE})."
        + (f" {one_seed}" if one_seed else "")
    )


def of_one_seed(count: int) -> str:
    """Say what some comparisons with a control, of one seed each, do not show; "" of none."""
    if not count:
        return ""
    return (
        f"{count} comparison{'s' if count > 1 else ''} with a control"
        f" {'are' if count > 1 else 'is'} of one seed each: of two models, which says nothing of"
        " learning from the teacher (repeats=5)."
    )


def _overlap(a: Row, b: Row, metric: str) -> bool:
    """Whether two rows' intervals of a metric overlap."""
    if metric not in a.intervals or metric not in b.intervals:
        return False
    (low_a, high_a), (low_b, high_b) = a.intervals[metric], b.intervals[metric]
    return low_a <= high_b and low_b <= high_a
