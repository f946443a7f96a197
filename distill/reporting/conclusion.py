"""What the numbers of one run show, and what they do not, in sentences.

A sentence says no more than its numbers carry. That a teacher helped or hurt is a statement on a
method, whose results differ from seed to seed: it takes several seeds, and an interval that counts
them. One seed compares two models, whatever the p-value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from distill.reporting.quantities import Quantity, quantity, speedup
from distill.reporting.schema import Role
from distill.reporting.text import (
    p_equals,
    percent,
    percent_with_interval,
    score,
    significant,
    with_interval,
)

if TYPE_CHECKING:
    from distill.reporting.schema import Difference, MetricValue, ModelReport, Report

# Below this many test examples the interval of an accuracy of 90 % is wider than ±2.6 points.
SMALL_TEST_SET = 500
SIGNIFICANCE = 0.05


def conclude(report: Report) -> str:
    """Return the conclusion of one run: what to believe, in a few sentences."""
    metric = quantity(report.main_metric)
    teacher, student = report.teacher, report.student
    own = report.models
    sentences = [_constant(model, metric) for model in own]
    if student is None or teacher is None:
        shown = own if student is None else [student]
        sentences += [_lone_model(model, metric) for model in shown]
    elif student.constant_prediction is not None or teacher.constant_prediction is not None:
        # Nothing is kept of a model that has learned nothing, nor by one.
        sentences += [_lone_model(model, metric) for model in (teacher, student)]
    sentences += [_majority(report, model, metric) for model in (teacher, student) if model]
    if student is not None and teacher is not None:
        sentences.append(_trade_off(report, teacher, student, metric))
    sentences.append(_beside_words(report, metric))
    if student is not None and (report.run.seed is not None or report.control is not None):
        sentences.append(_teaching(report, metric))
        sentences.append(_seeds(report, metric))
    examples = report.data.evaluated_examples
    if examples is not None and examples < SMALL_TEST_SET:
        sentences.append(
            f"With only {examples} {report.data.evaluated_on} examples the intervals are"
            " wide: take small differences for noise."
        )
    return " ".join(sentence for sentence in sentences if sentence)


def is_significant(difference: Difference) -> bool:
    """Whether test and interval agree that a difference is not 0."""
    p = difference.p_value
    if p is None:
        return difference.low is not None and _excludes_zero(difference)
    return p < SIGNIFICANCE and (difference.low is None or _excludes_zero(difference))


def _excludes_zero(difference: Difference) -> bool:
    low, high = difference.low, difference.high
    return low is None or high is None or low > 0 or high < 0


def shows_teaching(gain: Difference) -> bool:
    """Whether a gain over the control may say anything of the method: it takes several seeds."""
    return gain.seeds is not None and gain.seeds > 1


def _constant(model: ModelReport, metric: Quantity) -> str:
    """Say that a model's predictions show nothing that it has learned."""
    if model.constant_prediction is None:
        return ""
    measured = model.metric(metric.name)
    scores = (
        f"its {metric.label}, {_with_interval(measured)}," if measured.value is not None else "it"
    )
    return (
        f"The {model.role} predicts {model.constant_prediction}: {scores} shows nothing that it has"
        " learned."
    )


def _lone_model(model: ModelReport, metric: Quantity) -> str:
    measured = model.metric(metric.name)
    if measured.value is None or model.constant_prediction is not None:
        return ""
    return f"The {model.role} has {metric.label} {_with_interval(measured)}."


def _majority(report: Report, model: ModelReport, metric: Quantity) -> str:
    """Say that a model is no better than always predicting the largest class (or the mean)."""
    baseline = report.model(Role.MAJORITY)
    if baseline is None or model.constant_prediction is not None:
        return ""
    measured, least = model.metric(metric.name), baseline.metric(metric.name).value
    if measured.value is None or least is None:
        return ""
    numbers = f"{metric.label} {_with_interval(measured)} against {score(least)}"
    guess = "always giving the same answer, the best that can be given without reading"
    if not metric.is_better(measured.value, least):
        return f"The {model.role} is no better than {guess}: {numbers}."
    edge = measured.low if metric.higher_is_better else measured.high
    if edge is not None and not metric.is_better(edge, least):
        return f"The {model.role} is not shown to be better than {guess}: {numbers}."
    return ""


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


def _trade_off(report: Report, teacher: ModelReport, student: ModelReport, metric: Quantity) -> str:
    parts = []
    sizes = [quantity("parameters").read(model) for model in (student, teacher)]
    if sizes[0] is not None and sizes[1] is not None:
        parts.append(f"has {percent(sizes[0] / sizes[1])} of the teacher's parameters")
    ratio, _ = speedup(teacher, student)
    if ratio is not None:
        parts.append(f"answers {_speed(ratio)}")
    if student.constant_prediction is None and teacher.constant_prediction is None:
        parts.append(_kept(report, teacher.metric(metric.name), student, metric))
    parts = [part for part in parts if part]
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


def _kept(report: Report, teacher: MetricValue, student: ModelReport, metric: Quantity) -> str:
    """Compare the student's score with the teacher's.

    Whether the difference is real is for the paired test on the same examples to say.
    """
    paired, comparison = report.difference_to_teacher, report.comparison
    own = (comparison.means if comparison else {}).get(student.role) or student.metric(metric.name)
    if teacher.value is None or own.value is None:
        return ""
    over = f" on average of {paired.seeds} seeds" if shows_teaching(paired) else ""
    numbers = f"{_with_interval(own)}{over} against {score(teacher.value)}"
    is_better = metric.is_better(own.value, teacher.value)
    if own.value == teacher.value:
        return f"has the teacher's {metric.label} ({numbers}{_doubt(paired, metric)})"
    if is_better and not is_significant(paired):
        return (
            f"is not shown to be better or worse than its teacher ({metric.label} {numbers}"
            f"{_tested(paired, metric)})"
        )
    if is_better:
        return f"scores better than its teacher ({metric.label} {numbers}{_tested(paired, metric)})"
    numbers += _doubt(paired, metric)
    if not metric.higher_is_better and teacher.value > 0:
        times = significant(own.value / teacher.value)
        return f"has {times} times the teacher's {metric.label} ({numbers})"
    if teacher.value <= 0 or own.value <= 0:
        return f"scores lower than its teacher ({metric.label} {numbers})"
    interval = comparison.retention_interval if comparison else None
    kept = percent_with_interval(
        own.value / teacher.value,
        interval.low if interval else None,
        interval.high if interval else None,
    )
    return f"keeps {kept} of the teacher's {metric.label} ({numbers})"


def _tested(paired: Difference, metric: Quantity) -> str:
    if paired.value is None:
        return "; the difference was not tested"
    return f"; the difference is {_numbers(paired, metric)}{_disagreement(paired)}"


def _doubt(paired: Difference, metric: Quantity) -> str:
    """Write the paired difference to the teacher, and whether it is shown to be one."""
    if paired.value is None:
        return "; whether the difference is real was not tested"
    verdict = "a real difference" if is_significant(paired) else "no difference is shown"
    return f"; {verdict}: {_numbers(paired, metric)}{_disagreement(paired)}"


def _disagreement(paired: Difference) -> str:
    """Say where the interval excludes 0 and the test does not, or the other way round."""
    if paired.p_value is None or paired.low is None or paired.high is None:
        return ""
    if (paired.p_value < SIGNIFICANCE) == _excludes_zero(paired):
        return ""
    return ", where interval and test disagree"


def _teaching(report: Report, metric: Quantity) -> str:
    """Say whether the teacher helped, or that this run cannot tell."""
    gain = report.gain_over_control
    if gain.value is None:
        if report.control is not None:
            return (
                "Whether learning from the teacher helped is not known: student and control were"
                f" not compared{f' in {metric.label}' if metric.name else ''}."
            )
        return (
            "Whether learning from the teacher helped is not known: no control, the same student"
            " trained without it, was measured."
        )
    numbers = f"{_numbers(gain, metric)}{_disagreement(gain)}"
    if gain.low is None:
        numbers += ", and no interval can be given"
    if not shows_teaching(gain):
        return _two_models(gain, metric, numbers)
    if is_significant(gain):
        verb = "helped" if metric.is_better(gain.value, 0) else "hurt"
        compared = "gain over" if verb == "helped" and metric.higher_is_better else "difference to"
        return (
            f"Learning from the teacher {verb}: over {gain.seeds} seeds the {compared} the same"
            f" student trained without it is {numbers}."
        )
    return (
        f"Whether learning from the teacher helped is not shown: over {gain.seeds} seeds the"
        f" difference to the same student trained without it is {numbers}."
    )


def _two_models(gain: Difference, metric: Quantity, numbers: str) -> str:
    """Compare the student and the control of one seed, as the two models that they are."""
    if gain.value == 0:
        compared = "scores the same as"
    elif is_significant(gain):
        assert gain.value is not None
        compared = f"is {'better' if metric.is_better(gain.value, 0) else 'worse'} than"
    else:
        compared = "is not shown to differ from"
    return (
        f"This student {compared} this control, the same student trained without the teacher, in"
        f" {metric.label}: {numbers}."
    )


def _seeds(report: Report, metric: Quantity) -> str:
    """Say what the intervals cover."""
    comparison = report.comparison
    if not (comparison and comparison.means):
        luck = "One seed: the intervals cover the choice of test examples, not the luck of training"
        if report.gain_over_control.value is None:
            return f"{luck}."
        return f"{luck}, so that this says nothing of the method (repeats=5 trains both on five)."
    means = ", ".join(f"{role} {_with_interval(value)}" for role, value in comparison.means.items())
    seeds = report.difference_to_teacher.seeds or len(report.repeats)
    return (
        f"Mean {metric.label} over {seeds} seeds, with intervals that count seeds and test"
        f" examples: {means}. The table shows the models of the first seed, its intervals count"
        " test examples alone."
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
