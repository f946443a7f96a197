"""Made-up reports and the conclusion of each, to be read: conclusions.md.

    python -m tests.reporting.conclusions

writes the file anew after a change of the sentences; read it before it is committed.
"""

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distill.reporting.conclusion import conclude
from distill.reporting.schema import Report
from tests.reporting.example_reports import model, report

FILE = Path(__file__).with_suffix(".md")
PERPLEXITY = {"metric": "perplexity", "half_width": 0.1, "task": "masked_lm"}
Content = dict[str, Any]


def exact(role: str, value: float, low: float, high: float) -> Callable[[Content], None]:
    """Give a model's main metric other ends."""

    def change(content: Content) -> None:
        metric = content["comparison"]["metric"]
        for one in content["models"]:
            if one["role"] == role:
                one["quality"][metric] = {"value": value, "low": low, "high": high}

    return change


def teacher_difference(value, low, high, p_value) -> Callable[[Content], None]:
    def change(content: Content) -> None:
        content["comparison"]["difference_to_teacher"] |= {
            "value": value, "low": low, "high": high, "p_value": p_value,
        }  # fmt: skip

    return change


def retention(low, high) -> Callable[[Content], None]:
    def change(content: Content) -> None:
        content["comparison"]["retention_interval"] = {"low": low, "high": high}

    return change


def constant(role: str, what: str) -> Callable[[Content], None]:
    def change(content: Content) -> None:
        for one in content["models"]:
            if one["role"] == role:
                one["constant_prediction"] = what

    return change


def majority(value: float) -> Callable[[Content], None]:
    def change(content: Content) -> None:
        metric = content["comparison"]["metric"]
        content["models"].append(model("majority", "majority", value, metric=metric, ece=None))

    return change


def means(**roles: tuple[float, float, float]) -> Callable[[Content], None]:
    def change(content: Content) -> None:
        content["comparison"]["means"] = {
            role: dict(zip(("value", "low", "high"), ends, strict=True))
            for role, ends in roles.items()
        }

    return change


def words(value: float, *difference: float) -> Callable[[Content], None]:
    """Add a linear model on words, and the student's difference to it."""

    def change(content: Content) -> None:
        metric = content["comparison"]["metric"]
        content["models"].append(model("words", "words", value, metric=metric, ece=None))
        content["comparison"]["difference_to_words"] = dict(
            zip(("value", "low", "high", "p_value"), difference, strict=True)
        ) | {"seeds": 1, "covers": ["examples"]}

    return change


def two_controls(content: Content) -> None:
    gain = content["comparison"]["gain_over_control"]
    content["comparison"]["gain_over_each_control"] = {
        "control_equal_steps": gain | {"value": 0.08, "low": 0.07, "high": 0.09},
        "control_usual_length": gain,
    }
    content["data"]["examples"]["unlabelled"] = 20_000


def tiny(content: Content) -> None:
    student = next(one for one in content["models"] if one["role"] == "student")
    student["size"]["parameters"], student["speed"]["latency_ms"]["p50"] = 1_100_000, 0.1
    student["speed"]["cpu_ms"]["p50"] = 0.09


def without(*path: str) -> Callable[[Content], None]:
    """Set a key to null."""

    def change(content: Content) -> None:
        *parents, last = path
        for parent in parents:
            content = content[parent]
        content[last] = None

    return change


def without_model(role: str) -> Callable[[Content], None]:
    def change(content: Content) -> None:
        content["models"] = [one for one in content["models"] if one["role"] != role]

    return change


def without_sizes(content: Content) -> None:
    for one in content["models"]:
        one["size"] = one["speed"] = None


def without_intervals(content: Content) -> None:
    for one in content["models"]:
        for metric in one["quality"].values():
            metric["low"] = metric["high"] = None


def an_evaluation(content: Content) -> None:
    without_model("control")(content)
    content["run"]["seed"] = None
    content["comparison"]["gain_over_control"] = None


def old_report(content: Content) -> None:
    """The keys that reports had before runs had several seeds."""
    for key in ("retention_interval", "means", "calibration"):
        del content["comparison"][key]
    for key in ("gain_over_control", "difference_to_teacher"):
        for new in ("seeds", "covers"):
            del content["comparison"][key][new]
    del content["repeats"]


HELPED, HURT = (0.021, 0.009, 0.033, 0.0006), (-0.021, -0.033, -0.009, 0.002)
# Title, options of the report, and what is changed in it.
CASES: list[tuple[str, dict[str, Any], tuple[Callable[[Content], None], ...]]] = [
    # One seed, student against control
    ("one seed, no difference to the control", {}, ()),
    ("one seed, better than the control", {"gain": HELPED}, ()),
    ("one seed, worse than the control", {"gain": HURT}, ()),
    ("one seed, far better, p very small", {"gain": (0.12, 0.1, 0.14, 1e-9)}, ()),
    ("one seed, equal to the control", {"gain": (0.0, -0.002, 0.002, 1.0)}, ()),
    ("one seed, a difference that rounds to 0",
     {"gain": (0.0004, -0.0002, 0.001, 0.3), "test": 50_000, "half_width": 0.003}, ()),
    ("one seed, test and interval disagree", {"gain": (0.01, 0.0005, 0.0195, 0.06)}, ()),
    ("one seed, the other way round", {"gain": (0.01, -0.0005, 0.0205, 0.04)}, ()),
    ("one seed, no interval of the difference", {"gain": (0.01, None, None, 0.5)}, ()),
    ("no control", {"control": None, "gain": ()}, ()),
    ("a control that was not compared", {"gain": (None,) * 4}, ()),
    ("a report of before several seeds", {"gain": HELPED}, (old_report,)),
    # Several seeds
    ("three seeds, helped", {"seeds": 3, "gain": HELPED}, ()),
    ("three seeds, hurt", {"seeds": 3, "gain": HURT}, ()),
    ("five seeds, not shown", {"seeds": 5}, ()),
    ("five seeds, helped by little",
     {"seeds": 5, "gain": (0.0004, 0.0002, 0.0006, 0.004), "test": 50_000}, ()),
    ("two seeds, too wide to tell", {"seeds": 2, "gain": (0.03, -0.08, 0.14, 0.2)}, ()),
    ("ten seeds, no gain at all", {"seeds": 10, "gain": (0.0, -0.004, 0.004, 0.98)}, ()),
    ("three seeds, every seed the same", {"seeds": 3, "gain": (0.0, None, None, None)}, ()),
    ("three seeds without a control", {"seeds": 3, "control": None, "gain": ()}, ()),
    # Student against teacher
    ("worse than the teacher", {"value": 0.85}, ()),
    ("far worse than the teacher", {"value": 0.52}, (retention(0.576, 0.604),)),
    ("better than the teacher, not shown", {"value": 0.885},
     (teacher_difference(0.004, -0.008, 0.016, 0.51),)),
    ("better than the teacher, shown", {"value": 0.9}, ()),
    ("equal to the teacher", {"value": 0.881}, (teacher_difference(0.0, -0.01, 0.01, 1.0),)),
    ("worse by less than the digits show", {"value": 0.8808, "test": 50_000, "half_width": 0.003},
     (teacher_difference(-0.0002, -0.0004, -0.0001, 0.01), retention(0.9995, 0.9999))),
    ("no retention interval", {}, (without("comparison", "retention_interval"),)),
    ("difference to the teacher not tested", {},
     (without("comparison", "difference_to_teacher"),)),
    ("better, and not tested", {"value": 0.9},
     (without("comparison", "difference_to_teacher"),)),
    ("five seeds, worse than the teacher", {"seeds": 5, "value": 0.85}, ()),
    ("five seeds, better than the teacher", {"seeds": 5, "value": 0.9, "gain": HELPED}, ()),
    ("slower than the teacher", {"latency": 21.2}, ()),
    ("as fast as the teacher", {"latency": 10.7}, ()),
    ("sizes and speed not measured", {}, (without_sizes,)),
    # Models that have learned nothing
    ("the student answers one class", {"value": 0.9, "teacher": 0.93},
     (constant("student", "the class positive for every example"),)),
    ("student and control answer one class", {"value": 0.9, "control": 0.9, "teacher": 0.93,
                                              "gain": (0.0, -0.001, 0.001, 1.0)},
     (constant("student", "the class positive for every example"),
      constant("control", "the class positive for every example"))),
    ("the teacher answers one class", {"value": 0.5, "teacher": 0.5},
     (constant("teacher", "the class negative for every example"),
      teacher_difference(0.0, -0.02, 0.02, 1.0))),
    ("entities: only O", {"metric": "f1", "task": "token_classification", "value": 0.0,
                           "control": 0.2, "gain": (-0.2, -0.22, -0.18, 1e-4)},
     (constant("student", "the tag O for every word"), exact("student", 0.0, None, None))),
    ("below the majority share", {"value": 0.7, "teacher": 0.881}, (majority(0.74),)),
    ("not shown to be above the majority share", {"value": 0.75}, (majority(0.74),)),
    ("well above the majority share", {}, (majority(0.2),)),
    ("the teacher below the majority share, too", {"value": 0.6, "teacher": 0.62},
     (majority(0.7),)),
    # Few examples
    ("all right, ten examples", {"value": 1.0, "teacher": 1.0, "control": 1.0, "test": 10,
                                 "gain": (0.0, -0.308, 0.308, 1.0)},
     (exact("student", 1.0, 0.692, 1.0), teacher_difference(0.0, -0.308, 0.308, 1.0),
      without("comparison", "retention_interval"))),
    ("few examples", {"test": 120, "half_width": 0.06, "gain": (0.003, -0.05, 0.056, 0.9)},
     (teacher_difference(-0.01, -0.06, 0.04, 0.7), retention(0.932, 1.045))),
    ("no interval of any metric", {}, (without_intervals,)),
    # Other metrics
    ("perplexity, worse than the teacher",
     {"teacher": 5.0, "value": 5.5, "control": 5.9, "gain": (-0.4, -0.6, -0.2, 0.001),
      **PERPLEXITY}, ()),
    ("perplexity, three seeds, helped",
     {"teacher": 5.0, "value": 5.5, "control": 5.9, "gain": (-0.4, -0.6, -0.2, 0.001),
      "seeds": 3, **PERPLEXITY}, (means(student=(5.5, 5.3, 5.7), control=(5.9, 5.7, 6.1)),)),
    ("correlation of a useless student", {"metric": "pearson", "task": "regression",
                                          "value": -0.02, "teacher": 0.87,
                                          "gain": (-0.03, -0.08, 0.02, 0.3)},
     (without("comparison", "retention_interval"),)),
    # A linear model on words, two controls, a tiny student
    ("better than words alone", {}, (words(0.83, 0.041, 0.02, 0.062, 0.0002),)),
    ("words alone win", {}, (words(0.9, -0.029, -0.045, -0.013, 0.0004),)),
    ("words alone as good", {}, (words(0.868, 0.003, -0.01, 0.016, 0.65),)),
    ("three seeds, two controls, unlabeled text", {"seeds": 3, "gain": HELPED},
     (two_controls, tiny)),
    ("one seed, two controls", {"gain": HELPED}, (two_controls,)),
    ("three seeds, a student of one class", {"seeds": 3, "value": 0.9, "teacher": 0.93},
     (constant("student", "the class positive for every example"),)),
    # Evaluations
    ("distill-evaluate with a reference", {}, (an_evaluation,)),
    ("distill-evaluate of one model", {}, (an_evaluation, without_model("teacher"))),
]  # fmt: skip


def consistent(options: dict[str, Any]) -> dict[str, Any]:
    """Give the control the score that the gain over it says."""
    gain = (options.get("gain") or (0.003,))[0]
    if "control" in options or gain is None:
        return options
    return options | {"control": round(options.get("value", 0.871) - gain, 4)}


def conclusions() -> str:
    """Return the whole file: a heading and the conclusion of each report."""
    parts = [
        "# Reports and their conclusions",
        "Made by `python -m tests.reporting.conclusions`; the reports are in `conclusions.py`.",
    ]
    for number, (title, options, changes) in enumerate(CASES, 1):
        content = report(**consistent(options))
        for change in changes:
            change(content)
        text = conclude(Report.from_dict(content))
        parts.append(f"## {number}. {title}\n\n" + "\n".join(textwrap.wrap(text, 100)))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    FILE.write_text(conclusions(), encoding="utf-8")
