import json
import struct

import pytest

from distill.reporting.conclusion import conclude
from distill.reporting.run_report import markdown, write
from distill.reporting.run_table import markdown_overview, overview
from distill.reporting.schema import Report
from tests.reporting.example_reports import model, report, typed_report


def test_writes_what_it_was_given(tmp_path):
    content = report(overrides=["student.layers=[0,2,4]", "data.text=my column"])
    text = write(Report.from_dict(content), tmp_path / "new" / "run")
    folder = tmp_path / "new" / "run"
    assert json.loads((folder / "report.json").read_text()) == content
    files = ["checksums.json", "report.json", "report.md", "tradeoff.png"]
    assert sorted(p.name for p in folder.iterdir()) == files
    png = (folder / "tradeoff.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    assert struct.unpack(">II", png[16:24]) == (1200, 600)
    assert text == overview(Report.from_dict(content))


def test_terminal_text_is_short():
    lines = overview(typed_report()).splitlines()
    assert len(lines) <= 14
    assert max(map(len, lines)) <= 100
    assert [line.split()[0] for line in lines[2:5]] == ["teacher", "student", "control"]


def test_markdown_has_one_table_that_reads_back():
    text = markdown(typed_report())
    assert text.startswith("# docstrings-half-kd\n")
    assert text.count("|---") == 4  # one rule of four columns
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    cells = {row[0]: row[1:] for row in rows}
    assert cells["parameters"] == ["22.7 M", "17.4 M", "17.4 M"]
    assert cells["size on disk, MB"] == ["90.9", "69.6", "69.6"]
    assert cells["multiply-accumulates at 64 tokens"] == ["682 M", "341 M", "341 M"]
    assert cells["latency p50 / p95, ms"][0] == "10.6 / 12.0"
    assert cells["accuracy"][1] == "0.871 [0.855, 0.887]"
    assert cells["agreement with the teacher"] == ["–", "0.912", "0.874"]
    assert "peak memory, MB" not in cells  # nobody measured it


def test_markdown_has_the_calibration_at_the_fitted_temperature():
    content = report()
    scaled = {
        "temperature": 1.82,
        "expected_calibration_error": 0.012,
        "negative_log_likelihood": 0.35,
    }
    content["models"][1]["temperature_scaling"] = scaled
    typed = Report.from_dict(content)
    assert typed.student.temperature_scaling.temperature == 1.82
    assert typed.to_dict() == content
    text = markdown(typed)
    assert "| temperature fitted on validation | – | 1.82 | – |" in text
    assert "| expected calibration error at it | – | 0.012 | – |" in text
    assert "| negative log-likelihood at it | – | 0.350 | – |" in text
    assert "Guo et al. 2017" in text
    assert "Guo et al. 2017" not in markdown(typed_report())


def test_markdown_repeats_the_command_for_a_shell():
    text = markdown(typed_report(overrides=["student.layers=[0,2]", "data.text=my column"]))
    assert "distill 'student.layers=[0,2]' 'data.text=my column'" in text


def test_any_roles_and_metrics_and_what_is_absent(tmp_path):
    content = report()
    small = model("student_int8", "half", 0.86, size=17_400_000)
    small["quality"] = {"accuracy": {"value": 0.86, "low": None, "high": None}, "odd_one": None}
    small["calibration"] = small["fidelity"] = small["speed"] = None
    content["models"].append(small)
    content["environment"]["accelerator"] = None
    typed = Report.from_dict(content)
    assert "student_int8" in write(typed, tmp_path)
    assert "| odd one |" not in markdown(typed)


def test_a_lone_model_as_evaluate_reports_it(tmp_path):
    content = report()
    content["models"] = [model("model", "half", 0.871)]
    content["comparison"] = dict.fromkeys(content["comparison"])
    content["timing"] = dict.fromkeys(content["timing"])
    lone = Report.from_dict(content)
    write(lone, tmp_path)
    covered = "Intervals are 95 % and count the test examples."
    assert conclude(lone) == f"The model has accuracy 0.871 [0.855, 0.887]. {covered}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "It keeps 98.9 % [97.6, 100.2] of the teacher's accuracy: 0.871 [0.855, 0.887]"),
        (
            {},
            "difference of −1.0 points [−2.2, +0.2], p = 0.11, is not significant; a loss of up to",
        ),
        ({"value": 0.85}, "difference of −3.1 points [−4.3, −1.9], p < 0.001, is significant."),
        ({}, "has 77 % of the teacher's parameters (17.4 M of 22.7 M) and is 2.0 times as fast"),
        (
            {"seeds": 3},
            "not shown that learning from the teacher helped or hurt: averaged over 3 seeds",
        ),
        ({}, "the student's difference is +0.3 points [−0.9, +1.5], p = 0.62: not significant."),
        (
            {"gain": (0.02, 0.01, 0.03, 0.0001), "seeds": 5},
            "Learning from the teacher helped: averaged over 5 seeds, the student's accuracy",
        ),
        ({"gain": (0.02, 0.01, 0.03, 0.0001)}, "p < 0.001"),
        ({"gain": (0.02, 0.01, 0.03, 0.0001)}, "p < 0.001: better."),
        (
            {"gain": (-0.02, -0.03, -0.01, 0.002), "seeds": 2},
            "Learning from the teacher hurt: averaged over 2 seeds, the student's accuracy differs",
        ),
        ({"gain": (0.02, -0.001, 0.03, 0.049)}, "p = 0.049 (borderline: the test excludes 0"),
        ({"gain": (0.0, None, None, 1.0)}, "(no interval can be given): no difference"),
        ({"control": None}, "helped is not known: no control"),
        ({"value": 0.885}, "It scores higher than its teacher: accuracy 0.885"),
        (
            {"value": 0.885},
            "The difference of +0.4 points [−0.8, +1.6], p = 0.11, is not significant",
        ),
        ({"value": 0.895}, "It scores higher than its teacher: accuracy 0.895 [0.879, 0.911]"),
        ({"value": 0.881}, "It scores the same as its teacher"),
        ({"latency": 21.2}, "takes 2.0 times as long"),
        ({"latency": 10.7}, "is about as fast"),
        ({"test": 120}, "There are only 120 test examples"),
        ({}, "One seed: intervals (95 %) and tests count the test examples, not the luck of"),
    ],
)
def test_conclusion(changes, message):
    assert message in conclude(typed_report(**changes))


def test_conclusion_does_not_say_what_does_not_hold():
    assert "There are only" not in conclude(typed_report())
    assert "is significant" not in conclude(typed_report())
    assert "helped:" not in conclude(typed_report())
    for p_value in (1e-9, 0.001, 0.5):  # one seed says nothing of the method
        said = conclude(typed_report(gain=(0.04, 0.03, 0.05, p_value)))
        assert "helped" not in said
        assert "hurt" not in said


def test_perplexity_is_better_when_lower():
    gain = (-0.4, -0.6, -0.2, 0.001)
    changes = {"metric": "perplexity", "half_width": 0.1, "gain": gain, "seeds": 3}
    worse = conclude(typed_report(teacher=5.0, value=5.5, control=5.9, **changes))
    assert (
        "Averaged over 3 seeds, it has 1.10 times the one teacher's perplexity (lower is better): "
        "5.500 [5.487, 5.513]" in worse
    )
    assert "helped: averaged over 3 seeds, the student's perplexity differs from that of" in worse
    assert "by −0.400 [" in worse
    better = conclude(typed_report(teacher=5.0, value=4.5, control=4.9, **changes))
    assert "scores better than its teacher" in better
    assert "overlap" not in better


def test_a_notebook_shows_table_and_conclusion():
    typed = typed_report()
    assert str(typed) == overview(typed)
    shown = typed._repr_markdown_()
    assert shown == markdown_overview(typed)
    assert "| parameters | 22.7 M | 17.4 M | 17.4 M |" in shown
    assert conclude(typed) in shown
