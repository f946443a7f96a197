"""What the numbers of one run show, and what they do not, in sentences."""

from __future__ import annotations

from typing import Any

from distill.reporting.text import (
    LOWER_IS_BETTER,
    difference,
    difference_unit,
    finite,
    label,
    p_equals,
    percent,
    score,
    significant,
    with_interval,
)

# Below this many test examples the interval of an accuracy of 90 % is wider than ±2.6 points.
SMALL_TEST_SET = 500
SIGNIFICANCE = 0.05


def conclude(report: dict[str, Any]) -> str:
    """The conclusion of one run (report.json, schema 1): what to believe, in a few sentences."""
    models = {model["role"]: model for model in reversed(report["models"])}
    metric = main_metric(report)
    if "student" not in models:
        sentences = [_lone_model(model, metric) for model in report["models"]]
    elif "teacher" not in models:
        sentences = [_lone_model(models["student"], metric)]
    else:
        paired = (report.get("comparison") or {}).get("difference_to_teacher") or {}
        sentences = [_trade(models["teacher"], models["student"], metric, paired)]
    if "student" in models:
        sentences.append(_help(report, metric))
        sentences.append(
            "One seed: the intervals cover the choice of test examples, not the luck of training."
        )
    examples = _examples(report)
    if examples is not None and examples < SMALL_TEST_SET:
        sentences.append(
            f"With only {examples} {report['data']['evaluated_on']} examples the intervals are"
            " wide: take small differences for noise."
        )
    return " ".join(sentence for sentence in sentences if sentence)


def main_metric(report: dict[str, Any]) -> str | None:
    """The metric that the comparison is made in, or the first one measured."""
    named = (report.get("comparison") or {}).get("metric")
    return named or next((name for m in report["models"] for name in m.get("quality") or {}), None)


def quality(model: dict[str, Any], metric: str | None) -> tuple[float | None, ...]:
    """(value, low, high) of a metric of a model; None for what is absent."""
    entry = (model.get("quality") or {}).get(metric) or {}
    return tuple(finite(entry.get(key)) for key in ("value", "low", "high"))


def latency(model: dict[str, Any]) -> float | None:
    """The median latency in milliseconds."""
    return finite(((model.get("speed") or {}).get("latency_ms") or {}).get("p50"))


def parameters(model: dict[str, Any]) -> float | None:
    """The number of parameters."""
    return finite((model.get("size") or {}).get("parameters"))


def is_significant(gain: dict[str, Any]) -> bool:
    """Whether test and interval agree that a gain is not 0."""
    p, low, high = (finite(gain.get(key)) for key in ("p_value", "low", "high"))
    outside = low is None or high is None or low > 0 or high < 0
    return (p < SIGNIFICANCE and outside) if p is not None else (low is not None and outside)


def _examples(report: dict[str, Any]) -> int | None:
    """Of the evaluated split, which ``test`` counts whatever the source calls it."""
    return (report["data"].get("examples") or {}).get("test")


def _lone_model(model: dict[str, Any], metric: str | None) -> str:
    value, low, high = quality(model, metric)
    if value is None:
        return ""
    return f"The {model['role']} has {label(metric)} {with_interval(value, low, high)}."


def _trade(
    teacher: dict[str, Any],
    student: dict[str, Any],
    metric: str | None,
    paired: dict[str, Any],
) -> str:
    parts = []
    sizes = parameters(student), parameters(teacher)
    if None not in sizes:
        parts.append(f"has {percent(sizes[0] / sizes[1])} of the teacher's parameters")
    times = latency(student), latency(teacher)
    if None not in times:
        parts.append(f"answers {_speed(times[1] / times[0])}")
    kept = _kept(quality(teacher, metric), quality(student, metric), metric, paired)
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


def _kept(
    teacher: tuple[float | None, ...],
    student: tuple[float | None, ...],
    metric: str | None,
    paired: dict[str, Any],
) -> str:
    """How the student's score stands to the teacher's; each is (value, low, high).

    Whether the difference is real is for the paired test on the same examples to say.
    """
    if teacher[0] is None or student[0] is None:
        return ""
    name = label(metric)
    numbers = f"{with_interval(*student)} against {score(teacher[0])}"
    lower = metric in LOWER_IS_BETTER
    if student[0] == teacher[0]:
        return f"has its {name} ({numbers})"
    if (student[0] < teacher[0]) == lower:
        return f"scores better than its teacher ({name} {numbers}{_doubt(paired, metric)})"
    if lower:
        return f"has {significant(student[0] / teacher[0])} times its {name} ({numbers})"
    numbers += _doubt(paired, metric)
    if teacher[0] <= 0 or student[0] <= 0:
        return f"scores lower than its teacher ({name} {numbers})"
    return f"keeps {percent(student[0] / teacher[0])} of its {name} ({numbers})"


def _doubt(paired: dict[str, Any], metric: str | None) -> str:
    """The paired difference to the teacher, and whether it is shown to be one."""
    if finite(paired.get("value")) is None:
        return "; whether the difference is real was not tested"
    verdict = "a real difference" if is_significant(paired) else "no difference is shown"
    return f"; {verdict}: {_numbers(paired, metric)}"


def _help(report: dict[str, Any], metric: str | None) -> str:
    """Whether the teacher helped: the paired comparison with the control."""
    gain = (report.get("comparison") or {}).get("gain_over_control") or {}
    value = finite(gain.get("value"))
    if value is None:
        return (
            "Whether learning from the teacher helped is not known: no control, the same student"
            " trained without it, was measured."
        )
    numbers = _numbers(gain, metric)
    if is_significant(gain):
        lower = metric in LOWER_IS_BETTER
        verb = "helped" if (value < 0) == lower else "hurt"
        compared = "gain over" if verb == "helped" and not lower else "difference to"
        return (
            f"Learning from the teacher {verb}: the {compared} the same student trained without it"
            f" is {numbers}."
        )
    return (
        "Whether learning from the teacher helped is not shown: the gain over the same student"
        f" trained without it is {numbers}."
    )


def _numbers(paired: dict[str, Any], metric: str | None) -> str:
    """A paired difference with its unit, interval and p-value."""
    low, high, p = (finite(paired.get(key)) for key in ("low", "high", "p_value"))
    numbers = difference(paired["value"], metric) + difference_unit(metric)
    if low is not None and high is not None:
        numbers += f" [{difference(low, metric)}, {difference(high, metric)}]"
    return numbers + (f", {p_equals(p)}" if p is not None else "")
