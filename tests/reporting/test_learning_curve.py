"""Quality against the amount of unlabeled text: which runs are a curve, and what is drawn."""

import pytest

from distill.reporting.compare import compare
from distill.reporting.gather import gather
from distill.reporting.learning_curve import learning_curves
from distill.reporting.sweep import write_sweep
from tests.reporting.example_reports import report, write_run

VALUES = {None: 0.75, 0: 0.70, 1000: 0.72}


def write_curve(root, students=("third",), seeds=(1,), control=0.69):
    for student in students:
        for limit, value in VALUES.items():
            for seed in seeds:
                content = report(
                    f"{student}-{limit}-seed{seed}", seed=seed, student=student, value=value,
                    control=control,
                    overrides=[
                        f"student={student}", f"data.unlabeled_limit={limit}", f"seed={seed}",
                    ],
                )  # fmt: skip
                amount = 8000 if limit is None else limit
                if amount:
                    content["data"]["examples"]["unlabelled"] = amount
                write_run(root / content["run"]["name"], content)
    return root


def curves_of(root):
    runs, _ = gather([root])
    return learning_curves(compare(runs), runs)


def test_a_curve_has_a_point_for_each_amount(tmp_path):
    curves = curves_of(write_curve(tmp_path / "sweep"))
    points = {curve.role: [(p.amount, p.value) for p in curve.points] for curve in curves}
    assert points["student"] == [(0, 0.70), (1000, 0.72), (8000, 0.75)]
    assert [value for _, value in points["control"]] == [0.69] * 3
    assert all(point.low < point.value < point.high for point in curves[0].points)
    assert {curve.label for curve in curves} == {""}


def test_each_student_has_its_own_and_seeds_are_averaged(tmp_path):
    root = write_curve(tmp_path / "sweep", ("third", "single"), (1, 2), control=None)
    curves = curves_of(root)
    assert sorted(curve.label for curve in curves) == ["student=single", "student=third"]
    assert all([p.amount for p in curve.points] == [0, 1000, 8000] for curve in curves)


def test_runs_of_one_amount_are_no_curve(tmp_path):
    for seed in (1, 2):
        write_run(tmp_path / "sweep" / str(seed), report(seed=seed))
    assert curves_of(tmp_path / "sweep") == []
    write_sweep(tmp_path / "sweep")
    assert not (tmp_path / "sweep" / "unlabeled.png").exists()


@pytest.mark.parametrize("students", [("third",), ("third", "single")])
def test_the_sweeps_report_draws_it_and_says_it(tmp_path, students):
    root = write_curve(tmp_path / "sweep", students)
    shown = write_sweep(root)
    assert (root / "unlabeled.png").read_bytes().startswith(b"\x89PNG")
    said = (root / "sweep.md").read_text()
    assert "accuracy by the number of unlabeled texts (unlabeled.png): " in said
    assert "0.700 with 0, 0.720 with 1,000, 0.750 with 8,000" in said
    assert "unlabeled.png" in shown
