import copy

import numpy as np
import pytest
from scipy import stats

from distill.core.errors import UserError
from distill.reporting.compare import compare
from distill.reporting.comparison_summary import footnotes
from distill.reporting.gather import gather
from distill.reporting.sweep import write_sweep
from tests.reporting.example_reports import model, report, sweep, write_run


def compared(root, **options):
    return compare(*gather([root]), **options)


def by_title(comparison):
    return {row.title: row for row in comparison.rows}


def test_means_and_intervals_over_seeds(tmp_path):
    row = by_title(compared(sweep(tmp_path / "sweep")))["half-t4"]
    values = [0.868 + 0.008 + 0.001 * seed for seed in (1, 2, 3)]
    expected = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert row.values["accuracy"] == pytest.approx(np.mean(values))
    assert row.intervals["accuracy"] == pytest.approx(expected)
    assert row.interval_over == "seeds"
    assert row.values["retention"] == pytest.approx(np.mean(values) / 0.881)
    assert [run.seed for run in row.runs] == [1, 2, 3]


def test_with_one_seed_the_bootstrap_interval(tmp_path):
    write_run(tmp_path / "run", report())
    row = by_title(compared(tmp_path))["docstrings-half-kd"]
    assert row.intervals["accuracy"] == pytest.approx((0.855, 0.887))
    assert row.interval_over == "test examples"


STUDENTS = {0: 0.870, 1: 0.862, 2: 0.884}
CONTROLS = {0: 0.868, 1: 0.866, 2: 0.858}


def of_seeds(first=0, count=3, **options):
    """A report of a run of several seeds."""
    seeds = range(first, first + count)
    mean = {
        role: float(np.mean([values[seed] for seed in seeds]))
        for role, values in (("student", STUDENTS), ("control", CONTROLS))
    }
    content = report(
        seed=first,
        value=STUDENTS[first],
        control=CONTROLS[first],
        gain=(mean["student"] - mean["control"], -0.02, 0.03, 0.5),
        seeds=count,
        **options,
    )
    if count > 1:
        for role, value in mean.items():
            content["comparison"]["means"][role] = {
                "value": value,
                "low": value - 0.021,
                "high": value + 0.022,
            }
        content["repeats"] = [
            {
                "seed": seed,
                "models": {
                    role: {
                        "quality": {"accuracy": values[seed], "macro_f1": values[seed] - 0.01},
                        "calibration": {"expected_calibration_error": 0.04 + seed / 100},
                        "fidelity": {"agreement": 0.9 + seed / 100},
                        "training": None,
                    }
                    for role, values in (("student", STUDENTS), ("control", CONTROLS))
                },
            }
            for seed in seeds
        ]
    content["run"]["started"] = f"2026-05-{10 + first:02d}T10:20:30"
    return content


def test_a_run_of_several_seeds_enters_with_their_means(tmp_path):
    write_run(tmp_path / "run", of_seeds())
    comparison = compared(tmp_path)
    student, control = (
        next(row for row in comparison.rows if row.role == role) for role in ("student", "control")
    )
    for row, values in ((student, STUDENTS), (control, CONTROLS)):
        mean = np.mean(list(values.values()))
        assert row.values["accuracy"] == pytest.approx(mean)
        assert row.intervals["accuracy"] == pytest.approx((mean - 0.021, mean + 0.022))
        assert row.interval_over == "seeds and test examples"
        assert row.values["macro_f1"] == pytest.approx(mean - 0.01)
        assert row.intervals["macro_f1"] == pytest.approx(
            stats.t.interval(0.95, 2, mean - 0.01, stats.sem(list(values.values())))
        )
        assert row.values["expected_calibration_error"] == pytest.approx(0.05)
        assert row.values["agreement"] == pytest.approx(0.91)
        assert row.values["retention"] == pytest.approx(mean / 0.881)
        assert [one.seed for one in row.runs] == [0, 1, 2]
        assert row.values["latency_ms"] == pytest.approx(5.4)
    gain = student.values["accuracy"] - control.values["accuracy"]
    assert student.gain.value == pytest.approx(gain)
    assert (student.gain.low, student.gain.high, student.gain.p_value) == (-0.02, 0.03, 0.5)
    assert student.gain.seeds == 3
    notes = " ".join(footnotes(comparison))
    assert "over seeds and test examples where one run has several seeds" in notes
    assert "over the test examples" not in notes


def test_seeds_of_several_runs_are_taken_together(tmp_path):
    write_run(tmp_path / "two", of_seeds(count=2), {"seed": 0, "repeats": 2})
    write_run(tmp_path / "one", of_seeds(first=2, count=1), {"seed": 2, "repeats": 1})
    (student,) = compared(tmp_path).candidates
    values = list(STUDENTS.values())
    assert [one.seed for one in student.runs] == [0, 1, 2]
    assert student.values["accuracy"] == pytest.approx(np.mean(values))
    assert student.interval_over == "seeds"
    assert student.intervals["accuracy"] == pytest.approx(
        stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    )
    gains = [STUDENTS[seed] - CONTROLS[seed] for seed in STUDENTS]
    assert student.gain.value == pytest.approx(np.mean(gains))
    assert student.gain.seeds == 3
    assert student.gain.high - student.gain.low > 0.05  # no less than each run's own


def test_a_seed_of_two_runs_counts_once(tmp_path):
    write_run(tmp_path / "a", of_seeds(count=2), {"seed": 0, "repeats": 2})
    write_run(tmp_path / "b", of_seeds(first=1, count=2), {"seed": 1, "repeats": 2})
    (student,) = compared(tmp_path).candidates
    assert [one.seed for one in student.runs] == [0, 1, 2]
    assert student.gain.seeds == 3


def test_a_run_of_several_seeds_counts_before_one_of_them(tmp_path):
    write_run(tmp_path / "all", of_seeds(), {"seed": 0, "repeats": 3})
    write_run(tmp_path / "again", of_seeds(first=1, count=1), {"seed": 1, "repeats": 1})
    comparison = compared(tmp_path)
    (student,) = comparison.candidates
    assert [one.seed for one in student.runs] == [0, 1, 2]
    assert student.gain.seeds == 3
    (left_out,) = comparison.unfinished
    assert left_out.state == "repeated"
    assert left_out.reason.endswith("which has its seed among others")


def test_rows_stand_by_size_and_every_teacher_once(tmp_path):
    comparison = compared(sweep(tmp_path / "sweep"))
    shown = [row for row in comparison.rows if row.role != "control"]
    assert [row.title for row in shown] == [
        *("single-t4", "single-t1", "third-t4", "third-t1", "half-t4", "half-t1"),
        "minilm (teacher)",
    ]
    teacher = shown[-1]
    assert teacher.intervals["accuracy"] == pytest.approx((0.865, 0.897))  # one model, one draw
    assert len([row for row in comparison.rows if row.role == "control"]) == 6
    assert [row.title for row in comparison.front] == ["single-t4", "third-t4", "half-t4"]


def test_teachers_that_were_fine_tuned_anew_are_further_draws(tmp_path):
    for seed, teacher in enumerate((0.880, 0.884)):
        write_run(tmp_path / str(seed), report(seed=seed, teacher=teacher))
    teacher = next(row for row in compared(tmp_path).rows if row.role == "teacher")
    assert teacher.values["accuracy"] == pytest.approx(0.882)
    assert teacher.interval_over == "seeds"


def test_holm_is_over_the_groups(tmp_path):
    for i, (student, p) in enumerate((("half", 0.01), ("third", 0.02), ("single", 0.5))):
        content = report(student, student=student, gain=(0.02, 0.001, 0.04, p))
        write_run(tmp_path / str(i), content)
    write_run(tmp_path / "3", report("none", control=None, overrides=["control=false"]))
    comparison = compared(tmp_path)
    assert comparison.tested_gains == 3
    found = {row.name: row.gain and row.gain.p_holm for row in comparison.candidates}
    assert found == {"half": 0.03, "third": 0.04, "single": 0.5, "none": None}


def test_x_and_y_change_the_front(tmp_path):
    content = report("half")
    small = copy.deepcopy(content["models"][1])
    small["role"] = "student_int8"
    small["size"]["bytes"] //= 4
    small["quality"]["accuracy"]["value"] -= 0.01
    content["models"].append(small)
    write_run(tmp_path / "run", content)
    titles = lambda **options: [row.title for row in compared(tmp_path, **options).front]  # noqa: E731
    assert titles() == ["half"]
    assert titles(x="bytes") == ["half (int8)", "half"]
    assert titles(x="bytes", y="expected_calibration_error") == ["half (int8)"]


def test_where_other_programs_interrupted_the_measurement_processor_time_counts(tmp_path):
    for i, (student, wall, processor) in enumerate((("half", 5.4, 5.4), ("third", 40.0, 3.7))):
        content = report(student, student=student, latency=wall, value=0.871 + 0.001 * i)
        content["models"][1]["speed"]["cpu_ms"] = {"p50": processor, "p95": processor}
        write_run(tmp_path / student, content)
    rows = by_title(compared(tmp_path))
    assert rows["half"].values["speedup"] == pytest.approx(10.6 / 5.4)
    assert rows["third"].values["speedup"] == pytest.approx(10.6 / 3.7)
    assert rows["minilm (teacher)"].values["speedup"] == 1
    titles = lambda x: [row.title for row in compared(tmp_path, x=x).front]  # noqa: E731
    assert titles("latency_ms") == ["half", "third"]
    assert titles("cpu_ms") == ["third"]
    assert "interrupted the measurement of 1 of 6 models" in " ".join(compared(tmp_path).notes)
    write_run(tmp_path / "again", report("again", overrides=["a=1"]))
    (tmp_path / "third/report.json").unlink()
    assert not compared(tmp_path).notes


def test_lower_is_better(tmp_path):
    for i, (student, value) in enumerate((("single", 9.0), ("third", 9.5), ("half", 6.0))):
        content = report(student, student=student, value=value, teacher=5.0, metric="perplexity")
        write_run(tmp_path / str(i), content)
    comparison = compared(tmp_path)
    assert [row.title for row in comparison.front] == ["single", "half"]
    assert comparison.reference == (22_713_216, 9.5)
    assert comparison.ideal == 0
    assert by_title(comparison)["half"].values["retention"] == pytest.approx(5 / 6)


def test_hypervolume_has_a_reference_that_can_be_given(tmp_path):
    write_run(tmp_path / "run", report("half", value=0.75))
    share = 1 - 17_390_000 / 22_713_216
    assert compared(tmp_path).hypervolume == pytest.approx(0.75 * share)
    given = compared(tmp_path, reference={"accuracy": 0.5, "parameters": 2 * 17_390_000})
    assert given.reference == (2 * 17_390_000, 0.5)
    assert given.hypervolume == pytest.approx(0.5 * 0.5)


def test_values_that_are_no_numbers_are_not_compared(tmp_path):
    content = report("diverged")
    content["models"][1]["quality"]["accuracy"] = {"value": float("nan"), "low": None, "high": None}
    write_run(tmp_path / "diverged", content)
    write_run(tmp_path / "fine", report("fine", overrides=["a=1"]))
    comparison = compared(tmp_path)
    assert [row.title for row in comparison.front] == ["fine"]
    assert by_title(comparison)["diverged"].values["accuracy"] is None


def test_reports_without_a_student(tmp_path):
    content = report()
    content["models"] = [model("model", "half", 0.871)]
    content["comparison"] = dict.fromkeys(content["comparison"])
    write_run(tmp_path / "run", content)
    comparison = compared(tmp_path)
    assert comparison.metric == "accuracy"
    assert [row.title for row in comparison.front] == ["docstrings-half-kd (model)"]


def test_refuses_different_test_data_and_names_them(tmp_path):
    write_run(tmp_path / "a", report("a"))
    write_run(tmp_path / "b", report("b", data="sst2", fingerprint="beef"))
    with pytest.raises(
        UserError, match=r"docstrings \(fingerprint 5f0e4b1cd2\) in \S+/a; sst2 "
    ) as e:
        compared(tmp_path)
    assert "sst2 (fingerprint beef) in" in str(e.value)
    assert "\n" not in str(e.value)


def test_refuses_different_tasks(tmp_path):
    write_run(tmp_path / "a", report("a"))
    write_run(tmp_path / "b", report("b", task="regression"))
    with pytest.raises(UserError, match=r"different tasks.*regression in"):
        compared(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"x": "weight"}, "choose from parameters, bytes, multiply_accumulates, latency_ms"),
        ({"y": "f1"}, "choose from accuracy, macro_f1"),
        ({"reference": {"bytes": 1.0}}, "neither the x"),
    ],
)
def test_refuses_what_was_not_measured(tmp_path, options, message):
    write_run(tmp_path / "a", report())
    with pytest.raises(UserError, match=message):
        compared(tmp_path, **options)


def test_notes_say_what_makes_columns_hard_to_compare(tmp_path):
    write_run(tmp_path / "a", report("a"))
    other = report("b", overrides=["x=1"])
    other["environment"]["processor"] = "Apple M4"
    other["models"][1]["size"]["sequence_length"] = 128
    write_run(tmp_path / "b", other)
    notes = " ".join(compared(tmp_path).notes)
    assert "speed with care, it was measured with AMD EPYC 9B14 / Apple M4" in notes
    assert "sequence length 64 / sequence length 128" in notes


def test_write_sweep(tmp_path):
    root = sweep(tmp_path / "sweep", seeds=(1,))
    write_run(root / "late", None)
    text = write_sweep(root)
    assert "single-t4" in text
    assert "sweep/late: not finished" in text
    written = {"sweep.md", "sweep.csv", "sweep.json", "sweep.html", "front.png"}
    assert {path.name for path in root.iterdir() if path.is_file()} == written
    assert write_sweep(root, tmp_path / "elsewhere") == text
    assert {path.name for path in (tmp_path / "elsewhere").iterdir()} == written


def test_write_sweep_before_the_first_run_has_finished(tmp_path):
    write_run(tmp_path / "sweep" / "0", None, error="error: out of memory")
    assert "sweep/0: failed (error: out of memory)" in write_sweep(tmp_path / "sweep")
    assert not (tmp_path / "sweep" / "sweep.md").exists()


def test_a_sweep_over_test_sets_has_a_report_for_each(tmp_path):
    write_run(tmp_path / "0", report("a"))
    write_run(tmp_path / "1", report("b", data="sst2", fingerprint="beef"))
    write_sweep(tmp_path)
    for name in ("docstrings", "sst2"):
        assert (tmp_path / f"sweep-{name}.html").exists()
        assert (tmp_path / f"front-{name}.png").exists()
