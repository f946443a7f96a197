"""What the numbers of one run show, and what they do not, in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distill.reporting.quantities import Quantity, quantity
from distill.reporting.schema import Role
from distill.reporting.text import p_equals, percent, score, significant, with_interval

if TYPE_CHECKING:
    from distill.reporting.schema import Difference, MetricValue, ModelReport, Report

# Below this many test examples the interval of an accuracy of 90 % is wider than ±2.6 points.
SMALL_TEST_SET = 500
SIGNIFICANCE = 0.05


def conclude(report: Report) -> str:
    """Return the conclusion of one run: what to believe, in a few sentences."""
    metric = quantity(report.main_metric)
    teacher, student = report.teacher, report.student
    if student is None:
        sentences = [_lone_model(model, metric) for model in report.models]
    elif teacher is None:
        sentences = [_lone_model(student, metric)]
    else:
        sentences = [_trade_off(teacher, student, metric, report.difference_to_teacher)]
    if student is not None:
        sentences = [_below_majority(report, metric), *sentences, _beside_words(report, metric)]
        sentences.append(_teaching(report.gain_over_control, metric))
        sentences.append(
            "One seed: the intervals cover the choice of test examples, not the luck of training."
        )
    examples = report.data.evaluated_examples
    if examples is not None and examples < SMALL_TEST_SET:
        sentences.append(
            f"With only {examples} {report.data.evaluated_on} examples the intervals are"
            " wide: take small differences for noise."
        )
    return " ".join(sentence for sentence in sentences if sentence)


def is_significant(difference: Difference) -> bool:
    """Whether test and interval agree that a difference is not 0."""
    p, low, high = difference.p_value, difference.low, difference.high
    outside = low is None or high is None or low > 0 or high < 0
    return (p < SIGNIFICANCE and outside) if p is not None else (low is not None and outside)


def _lone_model(model: ModelReport, metric: Quantity) -> str:
    measured = model.metric(metric.name)
    if measured.value is None:
        return ""
    return f"The {model.role} has {metric.label} {_with_interval(measured)}."


def _below_majority(report: Report, metric: Quantity) -> str:
    """Say that the student scores lower than the same answer to everything."""
    baseline, student = report.model(Role.MAJORITY), report.student
    if baseline is None or student is None:
        return ""
    value, own = baseline.metric(metric.name).value, student.metric(metric.name).value
    if value is None or own is None or not metric.is_better(value, own):
        return ""
    return (
        f"The student is worse than the same answer to everything ({baseline.name}):"
        f" {metric.label} {score(own)} against {score(value)}."
    )


def _beside_words(report: Report, metric: Quantity) -> str:
    """Say that the student is not shown to be better than a linear model on words."""
    baseline, paired = report.model(Role.WORDS), report.difference_to_words
    if baseline is None or paired.value is None:
        return ""
    is_better = metric.is_better(paired.value, 0)
    if is_better and is_significant(paired):
        return ""
    value = score(baseline.metric(metric.name).value)
    verdict = "worse than" if is_significant(paired) else "not shown to be better than"
    return (
        f"The student is {verdict} a linear model on words alone ({metric.label} {value}):"
        f" the difference is {_numbers(paired, metric)}."
    )


def _trade_off(
    teacher: ModelReport, student: ModelReport, metric: Quantity, paired: Difference
) -> str:
    parts = []
    sizes = [quantity("parameters").read(model) for model in (student, teacher)]
    if sizes[0] is not None and sizes[1] is not None:
        parts.append(f"has {percent(sizes[0] / sizes[1])} of the teacher's parameters")
    times = [quantity("latency_ms").read(model) for model in (student, teacher)]
    if times[0] is not None and times[1] is not None:
        parts.append(f"answers {_speed(times[1] / times[0])}")
    kept = _kept(teacher.metric(metric.name), student.metric(metric.name), metric, paired)
    if kept:
        parts.append(kept)
    if not parts:
        return ""
    *first, last = parts
    return f"The student {', '.join(first)} and {last}." if first else f"The student {last}."


def _speed(ratio: float) -> str:
    if 0.97 < ratio < 1.03:
        return "as fast as the teacher"
    faster = ratio > 1
    times = significant(ratio if faster else 1 / ratio, 2)
    return f"{times} times {'faster' if faster else 'slower'}"


def _kept(teacher: MetricValue, student: MetricValue, metric: Quantity, paired: Difference) -> str:
    """Compare the student's score with the teacher's.

    Whether the difference is real is for the paired test on the same examples to say.
    """
    if teacher.value is None or student.value is None:
        return ""
    numbers = f"{_with_interval(student)} against {score(teacher.value)}"
    if student.value == teacher.value:
        return f"has its {metric.label} ({numbers})"
    if metric.is_better(student.value, teacher.value):
        doubt = _doubt(paired, metric)
        return f"scores better than its teacher ({metric.label} {numbers}{doubt})"
    if not metric.higher_is_better:
        times = significant(student.value / teacher.value)
        return f"has {times} times its {metric.label} ({numbers})"
    numbers += _doubt(paired, metric)
    if teacher.value <= 0 or student.value <= 0:
        return f"scores lower than its teacher ({metric.label} {numbers})"
    return f"keeps {percent(student.value / teacher.value)} of its {metric.label} ({numbers})"


def _doubt(paired: Difference, metric: Quantity) -> str:
    """Write the paired difference to the teacher, and whether it is shown to be one."""
    if paired.value is None:
        return "; whether the difference is real was not tested"
    verdict = "a real difference" if is_significant(paired) else "no difference is shown"
    return f"; {verdict}: {_numbers(paired, metric)}"


def _teaching(gain: Difference, metric: Quantity) -> str:
    """Say whether the teacher helped: the paired comparison with the control."""
    if gain.value is None:
        return (
            "Whether learning from the teacher helped is not known: no control, the same student"
            " trained without it, was measured."
        )
    numbers = _numbers(gain, metric)
    if is_significant(gain):
        verb = "helped" if metric.is_better(gain.value, 0) else "hurt"
        compared = "gain over" if verb == "helped" and metric.higher_is_better else "difference to"
        return (
            f"Learning from the teacher {verb}: the {compared} the same student trained without it"
            f" is {numbers}."
        )
    return (
        "Whether learning from the teacher helped is not shown: the gain over the same student"
        f" trained without it is {numbers}."
    )


def _numbers(paired: Difference, metric: Quantity) -> str:
    """Write a paired difference with its unit, interval and p-value."""
    numbers = metric.difference(paired.value) + metric.difference_unit
    if paired.low is not None and paired.high is not None:
        ends = [metric.difference(end) for end in (paired.low, paired.high)]
        numbers += f" [{', '.join(ends)}]"
    return numbers + (f", {p_equals(paired.p_value)}" if paired.p_value is not None else "")


def _with_interval(metric: MetricValue) -> str:
    return with_interval(metric.value, metric.low, metric.high)
