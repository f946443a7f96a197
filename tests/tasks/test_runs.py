"""Each task through the real command: it learns, and leaves what the contract promises."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from distill.reporting.compare import compare
from distill.reporting.formats import render
from distill.reporting.gather import gather
from tests.factories import curves, losses, report_of, write_csv
from tests.tasks.texts import rated, tagged

SIZES = (("train", 240, 1), ("validation", 60, 2), ("test", 80, 3))


@pytest.fixture(scope="session")
def ratings(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "ratings"
    for split, count, seed in SIZES:
        write_csv(folder / f"{split}.csv", rated(count, seed))
    return folder


@pytest.fixture(scope="session")
def tags(tmp_path_factory) -> Path:
    """As jsonl; ``both`` never occurs in test."""
    folder = tmp_path_factory.mktemp("data") / "tags"
    folder.mkdir()
    for split, count, seed in SIZES:
        rows = [r for r in tagged(count, seed) if split != "test" or "both" not in r["label"]]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def learning(small):
    return [*small, "trainer.max_epochs=8", "teacher.epochs=8", "output_dir=run"]


def test_regression(command, learning, ratings):
    code, out, err = command(*learning, "task=regression", f"data.path={ratings}")
    assert code == 0, err
    report = report_of(Path("run"))
    assert report["task"] == "regression"
    assert report["data"]["labels"] == ["score"]
    teacher, student, control = report["models"]
    for model in (teacher, student, control):
        assert list(model["quality"]) == ["pearson", "spearman", "mean_squared_error"]
        assert model["calibration"] is model["per_class"] is None
    assert report["comparison"]["metric"] == "pearson"
    assert student["quality"]["pearson"]["value"] > 0.6
    spread = np.var([row["label"] for row in rated(80, 3)])
    assert student["quality"]["mean_squared_error"]["value"] < spread
    assert set(student["fidelity"]) == {"agreement", "kl_divergence", "correlation"}
    falling = losses(Path("run"))
    assert falling[-1] < 0.9 * falling[0]
    assert "pearson" in out
    text = Path("run/report.md").read_text()
    assert "correlation with the teacher" in text
    assert "calibration" not in text
    tags = curves(Path("run")).Tags()["scalars"]
    assert {"validation/pearson", "final/pearson", "measures/mean_squared_error"} <= set(tags)
    # Whoever loads the student reads the number itself.
    rate = pipeline("text-classification", model="run/student")
    with (ratings / "test.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    said = np.array([rate(row["text"])[0]["score"] for row in rows])
    error = np.mean((said - [float(row["label"]) for row in rows]) ** 2)
    assert error == pytest.approx(student["quality"]["mean_squared_error"]["value"], rel=1e-3)
    assert rate.model.config.problem_type == "regression"
    assert "rate(" in Path("run/student/README.md").read_text()


def test_multi_label(command, learning, tags):
    code, _, err = command(
        *learning, "task=multi_label", f"data.path={tags}", "task.per_class=true",
        "trainer.patience=null", "teacher.epochs=12",
    )  # fmt: skip
    assert code == 0, err
    report = report_of(Path("run"))
    assert report["task"] == "multi_label"
    assert report["data"]["labels"] == ["blame", "both", "praise"]
    student = report["models"][1]
    assert list(student["quality"]) == ["micro_f1", "macro_f1", "exact_match"]
    rows = [json.loads(line) for line in (tags / "test.jsonl").read_text().splitlines()]
    often = max(np.mean([name in row["label"] for row in rows]) for name in ("praise", "blame"))
    everyone = sum(len(row["label"]) for row in rows)
    guess = 2 * often * len(rows) / (len(rows) + everyone)  # the same class for every text
    every = 2 * everyone / (3 * len(rows) + everyone)  # all classes for every text
    assert student["quality"]["micro_f1"]["value"] > max(guess, every) + 0.15
    assert set(student["calibration"]) == {"expected_calibration_error", "negative_log_likelihood"}
    assert set(student["fidelity"]) == {"agreement", "kl_divergence"}
    assert student["per_class"]["both"]["support"] == 0
    assert student["per_class"]["both"]["recall"] is None
    falling = losses(Path("run"))
    assert falling[-1] < 0.9 * falling[0]
    assert "student: precision" in Path("run/report.md").read_text()
    # What the card says of reading an answer gives the measured predictions.
    classify = pipeline("text-classification", model="run/student")
    right = 0
    for row in rows:
        answer = classify(row["text"], top_k=None)
        right += {one["label"] for one in answer if one["score"] >= 0.5} == set(row["label"])
    assert right / len(rows) == pytest.approx(student["quality"]["exact_match"]["value"])
    assert "top_k=None" in Path("run/student/README.md").read_text()


def test_per_class_of_single_labels(command, small):
    code, _, err = command(*small, "task.per_class=true", "control=false", "output_dir=run")
    assert code == 0, err
    teacher = json.loads(Path("run/report.json").read_text())["models"][0]
    assert list(teacher["per_class"]) == ["negative", "positive"]
    assert teacher["per_class"]["negative"]["support"] == 40
    mean = np.mean([one["f1"] or 0 for one in teacher["per_class"].values()])
    assert mean == pytest.approx(teacher["quality"]["macro_f1"]["value"])
    table = Path("run/report.md").read_text().split("## By class")[1]
    assert re.search(r"\| negative \| 40 \| [\d.]+ \| [\d.]+ \|", table)


@pytest.mark.parametrize(("task", "rows"), [("regression", rated), ("multi_label", tagged)])
def test_texts_without_labels_and_a_second_run(command, small, task, rows, request):
    """The student teaches the next one as it is, on texts that nobody has labelled."""
    folder = request.getfixturevalue({"regression": "ratings", "multi_label": "tags"}[task])
    Path("more.txt").write_text("\n".join(row["text"] for row in rows(100, 9)))
    given = [*small, f"task={task}", f"data.path={folder}"]
    code, _, err = command(*given, "control=false", "output_dir=first")
    assert code == 0, err
    code, _, err = command(
        *given, "teacher.path=first", "data.unlabeled=more.txt", "output_dir=second"
    )
    assert code == 0, err
    assert "is used as it is" in Path("second/run.log").read_text()
    first, second = (
        json.loads(Path(f"{name}/report.json").read_text())["models"]
        for name in ("first", "second")
    )
    for name, score in second[0]["quality"].items():
        assert score == pytest.approx(first[1]["quality"][name], rel=1e-4)
    report = report_of(Path("second"))
    assert report["data"]["examples"]["unlabelled"] > 50
    for metric in first[0]["quality"]:
        table = render(compare(*gather([Path("first"), Path("second")]), y=metric), "table")
        assert metric.replace("_", " ") in table
        assert f"{second[1]['quality'][metric]['value']:.3f}" in table
    assert len(losses(Path("second"))) == 2


@pytest.mark.parametrize(("task", "folder"), [("regression", "ratings"), ("multi_label", "tags")])
def test_an_ensemble_teaches(command, small, pretrained, task, folder, request):
    folder = request.getfixturevalue(folder)
    code, _, err = command(
        *(override for override in small if not override.startswith("teacher.path")),
        f"task={task}", f"data.path={folder}", "teacher=ensemble",
        f"teacher.paths=[{pretrained},{pretrained}]", "teacher.seeds=[0,1]", "control=false",
        "output_dir=run",
    )  # fmt: skip
    assert code == 0, err
    teacher = json.loads(Path("run/report.json").read_text())["models"][0]
    value = next(iter(teacher["quality"].values()))["value"]
    assert value > 0.3  # a mean of softmaxes would be no answer at all


@pytest.mark.parametrize("task", ["regression", "multi_label"])
@pytest.mark.parametrize("student", ["static", "bilstm", "tiny"])
def test_any_student(command, small, task, student, request):
    folder = request.getfixturevalue({"regression": "ratings", "multi_label": "tags"}[task])
    code, _, err = command(
        *small, f"task={task}", f"data.path={folder}", f"student={student}", "control=false",
        "debug=fast", "data.max_length=24", "output_dir=run",
    )  # fmt: skip
    assert code == 0, err
    model = AutoModelForSequenceClassification.from_pretrained("run/student")
    tokens = AutoTokenizer.from_pretrained("run/student")(["the film"], return_tensors="pt")
    tokens.pop("token_type_ids", None)
    with torch.no_grad():
        assert model(**tokens).logits.shape == (1, {"regression": 1, "multi_label": 3}[task])


@pytest.mark.parametrize("objective", ["kd_mse", "distilbert", "minilm"])
@pytest.mark.parametrize(("task", "folder"), [("regression", "ratings"), ("multi_label", "tags")])
def test_objectives_that_have_a_form(command, small, task, folder, objective, request):
    folder = request.getfixturevalue(folder)
    code, _, err = command(
        *small, f"task={task}", f"data.path={folder}", f"objective={objective}", "debug=fast",
        "data.max_length=24", "control=false", "output_dir=run",
    )  # fmt: skip
    assert code == 0, err
