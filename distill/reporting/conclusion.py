"""What the numbers of one run show, and what they do not, in sentences.

A sentence says no more than its numbers carry. That a teacher helped or hurt is a statement on a
method, whose results differ from seed to seed: it takes several seeds, and an interval that counts
them. One seed compares two models, whatever the p-value.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from distill.reporting.quantities import Quantity, quantity, speedup
from distill.reporting.schema import LINEAR_MODELS, Role
from distill.reporting.text import (
    p_equals,
    percent,
    percent_with_interval,
    score,
    short,
    significant,
    with_interval,
)

if TYPE_CHECKING:
    from distill.reporting.schema import Difference, MetricValue, ModelReport, Report

# Below this many test examples the interval of an accuracy of 90 % is wider than ±2.6 points.
SMALL_TEST_SET = 500
SIGNIFICANCE = 0.05
# A gain of less than a tenth of a point is called negligible, significant or not.
NEGLIGIBLE = 0.001


def conclude(report: Report) -> str:
    """Return the conclusion of one run: what to believe, in a few sentences."""
    metric = quantity(report.main_metric)
    teacher, student = report.teacher, report.student
    sentences = [_constant(model, metric) for model in report.models]
    if student is None or teacher is None:
        shown = report.models if student is None else [student]
        sentences += [_lone_model(model, metric) for model in shown]
    elif not _learned(student) or not _learned(teacher):
        # Nothing is kept of a model that has learned nothing, nor by one.
        sentences += [_lone_model(model, metric) for model in (teacher, student)]
    if teacher is not None and not _learned(teacher):
        sentences.append("A teacher that has learned nothing cannot teach: train it first.")
    sentences += [_majority(report, model, metric) for model in (teacher, student) if model]
    if teacher is not None and _below_majority(report, teacher, metric):
        sentences.append("Look at the teacher's fine-tuning and at the data first.")
    if student is not None:
        sentences.append(_correlation(student, metric))
    if student is not None and teacher is not None:
        costs = _costs(teacher, student)
        sentences.append(costs)
        if _learned(student) and _learned(teacher):
            compared = _against_teacher(report, teacher, student, metric)
            sentences.append(compared if costs else compared.replace("It ", "The student ", 1))
    sentences.append(_against_linear_model(report, metric))
    if student is not None and (report.run.seed is not None or report.control is not None):
        sentences.append(_teaching(report, metric))
    sentences.append(_intervals(report, metric))
    examples = report.data.evaluated_examples
    if examples is not None and examples < SMALL_TEST_SET:
        sentences.append(
            f"There are only {examples} {report.data.evaluated_on} examples: small differences"
            " cannot be shown with so few."
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


def _learned(model: ModelReport) -> bool:
    return model.constant_prediction is None


def _constant(model: ModelReport, metric: Quantity) -> str:
    """Say that a model's predictions are no sign that it has learned anything."""
    if _learned(model):
        return ""
    measured = model.metric(metric.name)
    scores = f"{metric.label} {_with_interval(measured)}" if measured.value is not None else "this"
    return (
        f"The {model.role} predicts {model.constant_prediction}: {scores} is no sign that it has"
        " learned anything."
    )


def _lone_model(model: ModelReport, metric: Quantity) -> str:
    measured = model.metric(metric.name)
    if measured.value is None or not _learned(model):
        return ""
    return f"The {model.role} has {metric.label} {_with_interval(measured)}."


def _below_majority(report: Report, model: ModelReport, metric: Quantity) -> bool:
    """Whether a model scores no better than the same answer for every example."""
    baseline, measured = report.model(Role.MAJORITY), model.metric(metric.name)
    least = None if baseline is None else baseline.metric(metric.name).value
    if measured.value is None or least is None:
        return False
    return not metric.is_better(measured.value, least)


def _majority(report: Report, model: ModelReport, metric: Quantity) -> str:
    """Say that a model is no better than always predicting the largest class (or the mean)."""
    baseline = report.model(Role.MAJORITY)
    if baseline is None or not _learned(model):
        return ""
    measured, least = model.metric(metric.name), baseline.metric(metric.name).value
    if measured.value is None or least is None:
        return ""
    numbers = f"{metric.label} {_with_interval(measured)} against {score(least)}"
    answer = "the mean" if report.task == "regression" else "the most common answer"
    guess = f"giving {answer} every time"
    worst, best = measured.low, measured.high
    if not metric.higher_is_better:
        worst, best = best, worst
    if _below_majority(report, model, metric):
        is_worse = best is not None and metric.is_better(least, best)
        verdict = "worse than" if is_worse else "no better than"
        return f"The {model.role} is {verdict} {guess}: {numbers}."
    if worst is not None and not metric.is_better(worst, least):
        return (
            f"The {model.role} is not shown to be better than {guess}: {numbers}, which lies within"
            " its interval."
        )
    return ""


def _correlation(student: ModelReport, metric: Quantity) -> str:
    """Say that a student's numbers do not go along with the labels."""
    measured = student.metric(metric.name)
    edge = measured.value if measured.low is None else measured.low
    if not metric.is_correlation or edge is None or edge > 0:
        return ""
    return (
        "The student's predictions are not shown to go along with the labels:"
        f" {metric.label} {_with_interval(measured)}."
    )


def _costs(teacher: ModelReport, student: ModelReport) -> str:
    """Write the student's size and speed beside the teacher's."""
    parts = []
    own, of_teacher = (quantity("parameters").read(model) for model in (student, teacher))
    if own is not None and of_teacher is not None:
        parts.append(
            f"has {percent(own / of_teacher)} of the teacher's parameters ({short(own)} of"
            f" {short(of_teacher)})"
        )
    ratio, compared = speedup(teacher, student)
    if ratio is not None:
        how = ", by processor time" if compared == "cpu_ms" else ""
        parts.append(f"{_speed(ratio)} (one example at a time{how})")
    return f"The student {' and '.join(parts)}." if parts else ""


def _speed(ratio: float) -> str:
    if 0.97 < ratio < 1.03:
        return "is about as fast"
    if ratio > 1:
        return f"is {significant(ratio, 2)} times as fast"
    return f"takes {significant(1 / ratio, 2)} times as long"


def _against_teacher(
    report: Report, teacher: ModelReport, student: ModelReport, metric: Quantity
) -> str:
    """Compare the student's score with the teacher's.

    Whether the difference is more than chance is for the paired test on the same examples to say.
    """
    paired, comparison = report.difference_to_teacher, report.comparison
    means = comparison.means if comparison else {}
    own = means.get(student.role) or student.metric(metric.name)
    reached = teacher.metric(metric.name)
    if reached.value is None or own.value is None:
        return ""
    over_seeds = shows_teaching(paired)
    subject = f"Averaged over {paired.seeds} seeds, it" if over_seeds else "It"
    whose = "the one teacher's" if over_seeds else "the teacher's"
    numbers = f"{_with_interval(own)} against {score(reached.value)}"
    if score(own.value) == score(reached.value):
        same = math.isclose(own.value, reached.value, abs_tol=1e-9)
        how = "the same" if same else "about the same"
        said = f"{subject} scores {how} as its teacher: {metric.label} {numbers}."
    elif metric.is_better(own.value, reached.value):
        said = f"{subject} scores higher than its teacher: {metric.label} {numbers}."
        if not metric.higher_is_better:
            said = f"{subject} scores better than its teacher: {metric.label} {numbers}."
    elif _below_majority(report, student, metric) or reached.value <= 0 or own.value <= 0:
        said = f"{subject} scores worse than its teacher: {metric.label} {numbers}."
    elif not metric.higher_is_better:
        times = significant(own.value / reached.value)
        said = f"{subject} has {times} times {whose} {metric.label} (lower is better): {numbers}."
    else:
        interval = comparison.retention_interval if comparison else None
        kept = percent_with_interval(
            own.value / reached.value,
            interval.low if interval else None,
            interval.high if interval else None,
        )
        said = f"{subject} keeps {kept} of {whose} {metric.label}: {numbers}."
    return f"{said} {_tested(paired, metric)}"


def _tested(paired: Difference, metric: Quantity) -> str:
    """Write the paired difference to the teacher, and what it shows."""
    if paired.value is None:
        return "Whether the difference is more than chance was not tested."
    numbers = f"The difference of {_numbers(paired, metric)}"
    if is_significant(paired):
        tiny = metric.in_points and abs(paired.value) < NEGLIGIBLE
        return f"{numbers}, is significant{' but negligible' if tiny else ''}."
    loss = paired.low if metric.higher_is_better else paired.high
    excluded = ""
    if loss is not None and not metric.is_better(loss, 0) and loss != 0:
        most = metric.difference(abs(loss)).removeprefix("+")
        excluded = f"; a loss of up to {most}{metric.difference_unit} is not excluded"
    return f"{numbers}, is not significant{_disagreement(paired)}{excluded}."


def _disagreement(paired: Difference) -> str:
    """Say where the interval excludes 0 and the test does not, or the other way round."""
    if paired.p_value is None or paired.low is None or paired.high is None:
        return ""
    if (paired.p_value < SIGNIFICANCE) == _excludes_zero(paired):
        return ""
    if _excludes_zero(paired):
        return " (borderline: its interval excludes 0, the test does not)"
    return " (borderline: the test excludes 0, its interval does not)"


def _against_linear_model(report: Report, metric: Quantity) -> str:
    """Compare the student with a linear model on words or pixels."""
    found = [model for role in LINEAR_MODELS if (model := report.model(role)) is not None]
    baseline, paired = next(iter(found), None), report.difference_to_words
    if baseline is None or paired.value is None:
        return ""
    if not is_significant(paired):
        verdict = "is not shown to differ from"
    elif metric.is_better(paired.value, 0):
        verdict = "is better than"
    else:
        verdict = "is worse than"
    value = score(baseline.metric(metric.name).value)
    return (
        f"The student {verdict} a linear model on {baseline.role} alone, which has {metric.label}"
        f" {value}: {_numbers(paired, metric)}{_disagreement(paired)}."
    )


def _teaching(report: Report, metric: Quantity) -> str:
    """Say whether the teacher helped, or that this run cannot tell."""
    gain, control = report.gain_over_control, report.control
    student = report.student
    if gain.value is None:
        if control is not None:
            return (
                "Whether learning from the teacher helped is not known: student and control were"
                f" not compared{f' in {metric.label}' if metric.name else ''}."
            )
        return (
            "Whether learning from the teacher helped is not known: no control (the same student"
            " trained without the teacher) was measured; control=true adds one."
        )
    if student is not None and control is not None and not (_learned(student) or _learned(control)):
        return ""  # two constants have nothing to compare
    numbers = f"{_numbers(gain, metric)}{_disagreement(gain)}"
    if gain.low is None:
        numbers += " (no interval can be given)"
    if not shows_teaching(gain):
        return _two_models(report, gain, metric, numbers)
    compared = (
        f"averaged over {gain.seeds} seeds, the student's {metric.label} differs from that of"
        f" {_control(report, metric)} by {numbers}"
    )
    if not is_significant(gain):
        return f"It is not shown that learning from the teacher helped or hurt: {compared}."
    verb = "helped" if metric.is_better(gain.value, 0) else "hurt"
    if metric.in_points and abs(gain.value) < NEGLIGIBLE:
        verb += ", by a negligible amount"
    lower = "" if metric.higher_is_better else " (lower is better)"
    taught = "the teacher"
    if report.data.examples.get("unlabelled"):
        taught = "the teacher, which labels text that the control cannot use,"
        if report.task == "image_classification":
            taught = "the teacher, which labels images that the control cannot use,"
    return f"Learning from {taught} {verb}: {compared}{lower}."


def _control(report: Report, metric: Quantity) -> str:
    """Name the control, with its score, and which one it is where there were two."""
    comparison, control = report.comparison, report.control
    means = comparison.means if comparison else {}
    measured = means.get(Role.CONTROL) or (control.metric(metric.name) if control else None)
    parts = [] if measured is None or measured.value is None else [_with_interval(measured)]
    if comparison is not None and comparison.gain_over_each_control:
        parts.append("the better of two on validation")
    added = f" ({', '.join(parts)})" if parts else ""
    return f"the same student trained without it{added}"


def _two_models(report: Report, gain: Difference, metric: Quantity, numbers: str) -> str:
    """Compare the student and the control of one seed, as the two models that they are."""
    assert gain.value is not None
    if gain.value == 0:
        verdict = "no difference"
    elif is_significant(gain):
        verdict = f"{'better' if metric.is_better(gain.value, 0) else 'worse'}"
    else:
        verdict = "not significant"
    named = _control(report, metric).replace("without it", "without the teacher")
    return f"Against the control, {named}, the student's difference is {numbers}: {verdict}."


def _intervals(report: Report, metric: Quantity) -> str:
    """Say what the intervals cover."""
    comparison = report.comparison
    if comparison is not None and comparison.means:
        return (
            "Intervals of averages are 95 % and count seeds and test examples, not that another"
            " teacher may be better or worse. The table shows the models of the first seed, those"
            " that are saved, with intervals that count test examples only."
        )
    if report.student is None or (report.run.seed is None and report.control is None):
        measured = [model.metric(metric.name) for model in report.models]
        if all(one.low is None for one in measured):
            return ""
        return "Intervals are 95 % and count the test examples."
    luck = "One seed: intervals (95 %) and tests count the test examples, not the luck of training"
    if report.gain_over_control.value is None:
        return f"{luck}."
    return (
        f"{luck}. Whether learning from the teacher helps takes several seeds to tell (repeats=5"
        " trains student and control on five)."
    )


def _numbers(paired: Difference, metric: Quantity) -> str:
    """Write a paired difference with its unit, interval and p-value."""
    value = metric.difference(paired.value, paired.low, paired.high)
    number, bracket, interval = value.partition(" [")
    numbers = f"{number}{metric.difference_unit}{bracket}{interval}"
    return numbers + (f", {p_equals(paired.p_value)}" if paired.p_value is not None else "")


def _with_interval(metric: MetricValue) -> str:
    return with_interval(metric.value, metric.low, metric.high)
