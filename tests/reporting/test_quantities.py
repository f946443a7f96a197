import pytest

from distill.reporting.quantities import (
    QUANTITIES,
    Quantity,
    costs,
    quantity,
    register_quantity,
    speedup,
)
from distill.reporting.schema import Latency, ModelReport, Report, Speed
from tests.reporting.example_reports import report, typed_report

every_quantity = pytest.mark.parametrize("declared", QUANTITIES.values(), ids=lambda one: one.name)


@every_quantity
def test_where_nothing_was_measured(declared):
    empty = ModelReport(role="student")
    assert declared.read(empty) is None
    assert declared.format(None) == "–"
    assert declared.row_cell(empty) == "–"


@every_quantity
def test_declaration_is_consistent(declared):
    assert quantity(declared.name) is declared
    assert declared.label
    if declared.is_cost:
        assert declared.kind in ("size", "speed")
        assert not declared.higher_is_better
    if declared.kind in ("size", "speed"):
        assert declared.reader is not None
    assert declared.drop_order is None or declared.column


def test_values_in_the_report():
    student = typed_report().student
    assert {name: quantity(name).read(student) for name in costs()} == {
        "parameters": 17_390_000,
        "bytes": 69_600_000,
        "multiply_accumulates": 341_000_000,
        "latency_ms": 5.4,
        "cpu_ms": 5.4,
    }
    assert quantity("accuracy").read(student) == 0.871
    assert quantity("agreement").read(student) == 0.912
    assert quantity("latency_ms_p95").read(student) == pytest.approx(5.4 * 1.13)


def interrupted(role: str, wall: float, processor: float | None) -> ModelReport:
    times = None if processor is None else Latency(processor, processor)
    return ModelReport(role=role, speed=Speed(latency_ms=Latency(wall, wall), cpu_ms=times))


@pytest.mark.parametrize(
    ("teacher", "student", "expected"),
    [
        ((10.0, 10.1), (2.0, 2.0), (5.0, "latency_ms")),
        ((20.0, 10.0), (2.0, 2.0), (5.0, "cpu_ms")),  # the teacher was interrupted
        ((10.0, 10.0), (4.0, 2.0), (5.0, "cpu_ms")),
        ((20.0, None), (2.0, None), (10.0, "latency_ms")),  # of a GPU or an older report
        ((20.0, 10.0), (2.0, None), (10.0, "latency_ms")),
    ],
)
def test_speedup_is_of_processor_time_where_wall_time_exceeds_it(teacher, student, expected):
    teacher, student = interrupted("teacher", *teacher), interrupted("student", *student)
    assert speedup(teacher, student) == (pytest.approx(expected[0]), expected[1])


def test_no_speedup_of_what_was_not_measured():
    measured, empty = interrupted("teacher", 1.0, 1.0), ModelReport(role="student")
    assert speedup(measured, empty) == speedup(empty, measured) == (None, None)


def test_processor_time_has_a_row_only_where_it_differs():
    declared = quantity("cpu_ms")
    alone, beside = interrupted("teacher", 10.0, 10.0), interrupted("student", 4.0, 2.0)
    assert declared.row_heading([alone]) is None
    assert declared.row_heading([alone, beside]) == "processor time p50 / p95, ms"
    assert declared.row_cell(beside) == "2.00 / 2.00"


def test_names_for_reading():
    assert quantity("latency_ms").label == "latency"
    assert quantity("latency_ms").axis_label == "latency, ms"
    assert quantity("macro_f1").label == "macro f1"
    assert quantity("macro_f1").axis_label == "macro f1"


@pytest.mark.parametrize(
    "name",
    [
        *("perplexity", "mean_squared_error", "negative_log_likelihood", "kl_divergence"),
        *("expected_calibration_error", "latency_ms", "parameters", "peak_memory_bytes"),
    ],
)
def test_lower_is_better(name):
    assert not quantity(name).higher_is_better
    assert quantity(name).is_better(1, 2)
    assert quantity(name).retention(student=4.0, teacher=3.0) == 0.75


@pytest.mark.parametrize("name", ["accuracy", "agreement", "examples_per_second", "what_else"])
def test_higher_is_better(name):
    assert quantity(name).higher_is_better
    assert quantity(name).is_better(2, 1)
    assert quantity(name).retention(student=3.0, teacher=4.0) == 0.75


def test_retention_without_a_positive_divisor():
    assert quantity("matthews_correlation").retention(0.5, 0.0) is None
    assert quantity("matthews_correlation").retention(0.5, -0.1) is None
    assert quantity("mean_squared_error").retention(0.0, 0.5) is None
    assert quantity("accuracy").retention(None, 0.5) is None
    assert quantity("accuracy").retention(0.5, None) is None


def test_differences_are_in_points_where_values_are_bounded():
    assert quantity("accuracy").difference(0.003, -0.009, 0.015) == "+0.3 [−0.9, +1.5]"
    assert quantity("accuracy").difference_unit == " points"
    assert quantity("perplexity").difference(-0.4) == "−0.400"
    assert quantity("perplexity").difference_unit == ""


def test_declared_once():
    with pytest.raises(ValueError, match="parameters is declared already"):
        register_quantity(Quantity(name="parameters"))


def test_multiply_accumulates_state_their_length():
    assert quantity("multiply_accumulates").row_heading(typed_report().models) == (
        "multiply-accumulates at 64 tokens"
    )
    content = report()
    content["models"][1]["size"]["sequence_length"] = 128
    models = Report.from_dict(content).models
    assert quantity("multiply_accumulates").row_heading(models) == "multiply-accumulates"
