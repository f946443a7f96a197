"""Baselines in the report of a run and in the comparison of many."""

import struct

import pytest

from distill.reporting.compare import compare
from distill.reporting.conclusion import conclude
from distill.reporting.figure import draw_tradeoff
from distill.reporting.formats import FORMATS, render
from distill.reporting.formats.image import _figure
from distill.reporting.gather import gather
from distill.reporting.run_report import markdown, write
from distill.reporting.run_table import overview
from distill.reporting.schema import Report
from tests.reporting.example_reports import model, report, sweep, write_run


def with_baselines(content: dict, words=0.84, majority=0.125, paired=(0.031, 0.01, 0.05, 0.002)):
    linear = model("words", "logistic regression on words, C=10", words, agreement=0.8)
    linear["size"] |= {"parameters": 120_000, "bytes": 900_000, "multiply_accumulates": 300}
    linear["size"] |= {"parameters_without_embeddings": None, "sequence_length": None}
    linear["speed"] |= {
        "latency_ms": {"p50": 0.05, "p95": 0.06}, "threads": None, "batch_size": None,
        "examples_per_second": None, "runtime": "numpy, from the text to the answer",
    }  # fmt: skip
    constant = model("majority", "always torch", majority, agreement=0.1)
    constant["size"] = constant["speed"] = None
    content["baselines"] = [constant, linear]
    names = ("value", "low", "high", "p_value")
    content["comparison"]["difference_to_words"] = dict(zip(names, paired, strict=True))
    return content


def test_a_report_without_baselines_reads_as_before():
    content = report()
    del content["baselines"], content["comparison"]["difference_to_words"]
    typed = Report.from_dict(content)
    assert typed.baselines == ()
    assert typed.model("words") is None
    assert typed.difference_to_words.value is None
    assert typed.measured == typed.models


def test_table_and_details_show_them_after_the_models():
    typed = Report.from_dict(with_baselines(report()))
    lines = overview(typed).splitlines()
    roles = ["teacher", "student", "control", "majority", "words"]
    assert [line.split()[0] for line in lines[2:7]] == roles
    text = markdown(typed)
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    cells = {row[0]: row[1:] for row in rows}
    assert cells["parameters"][3:] == ["–", "120 k"]
    assert cells["accuracy"][3].startswith("0.125")
    assert "multiply-accumulates at 64 tokens" in cells
    assert "- Baseline majority: always torch.\n" in text
    assert (
        "- Baseline words: logistic regression on words, C=10; latency is of numpy, from the text "
        "to the answer, one at a time.\n"
    ) in text


@pytest.mark.parametrize(
    ("paired", "expected"),
    [
        ((0.031, 0.01, 0.05, 0.002), "is better than"),
        ((0.031, -0.01, 0.07, 0.2), "is not shown to differ from"),
        ((-0.031, -0.07, 0.01, 0.2), "is not shown to differ from"),
        ((-0.031, -0.05, -0.01, 0.002), "is worse than"),
        ((0.0, None, None, 1.0), "is not shown to differ from"),
    ],
)
def test_compares_with_words_alone(paired, expected):
    text = conclude(Report.from_dict(with_baselines(report(), paired=paired)))
    assert f"The student {expected} a linear model on words alone" in text


def test_says_before_anything_else_that_the_student_is_below_the_majority():
    text = conclude(Report.from_dict(with_baselines(report(value=0.91), majority=0.927)))
    assert "The student is worse than giving the most common answer every time" in text
    assert text.index("worse than") < text.index("The student has")
    assert "keeps" not in text
    assert "most common answer" not in conclude(Report.from_dict(with_baselines(report())))


@pytest.mark.parametrize(
    ("majority", "label"),
    [(0.125, "majority 0.125, below"), (0.86, "majority 0.860"), (0.99, "majority 0.990, above")],
)
def test_figure_has_a_point_for_words_and_a_line_for_the_majority(tmp_path, majority, label):
    typed = Report.from_dict(with_baselines(report(), majority=majority))
    for panel in draw_tradeoff(typed).axes:
        texts = [text.get_text() for text in panel.texts]
        assert {"words", "teacher", label} <= set(texts)
        dashed = [line for line in panel.lines if line.get_linestyle() == "--"]
        assert len(dashed) == (majority == 0.86)
    write(typed, tmp_path)
    assert struct.unpack(">II", (tmp_path / "tradeoff.png").read_bytes()[16:24]) == (1200, 600)


@pytest.fixture
def compared(tmp_path):
    for folder in sorted(sweep(tmp_path / "sweep").iterdir()):
        content = with_baselines(Report.read(folder / "report.json").to_dict(), words=0.86)
        (folder / "report.json").unlink()
        Report.from_dict(content).write(folder / "report.json")
    return compare(*gather([tmp_path / "sweep"]))


def test_comparison_has_each_baseline_once(compared):
    rows = [row for row in compared.rows if row.is_baseline]
    assert [(row.role, len(row.runs)) for row in rows] == [("words", 1), ("majority", 1)]
    assert not any(row.is_candidate or row.on_front or row.gain for row in rows)
    assert len(compared.candidates) == 6
    assert rows[0].value("latency_ms") == pytest.approx(0.05)
    for name in FORMATS:
        if hasattr(FORMATS[name], "render"):
            assert "always torch" in render(compared, name)
    points = [text.get_text() for text in _figure(compared).axes[0].texts]
    assert "words" in points
    assert "majority" not in points  # it costs nothing


def test_baselines_change_neither_front_nor_hypervolume(tmp_path, compared):
    without = compare(*gather([sweep(tmp_path / "other")]))
    assert compared.hypervolume == without.hypervolume
    assert [row.name for row in compared.front] == [row.name for row in without.front]


def test_baselines_do_not_split_a_group(tmp_path):
    with_, without = with_baselines(report(seed=1)), report(seed=2)
    for seed, content in ((1, with_), (2, without)):
        roles = ["majority", "words"] if seed == 1 else []
        write_run(tmp_path / "runs" / str(seed), content, {"seed": seed, "baselines": roles})
    rows = compare(*gather([tmp_path / "runs"])).rows
    assert sorted(row.role for row in rows if not row.is_reference) == ["control", "student"]
