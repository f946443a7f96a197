"""Question answering through the real command."""

from pathlib import Path

import pytest

from tests.tasks import questions
from tests.tasks.test_end_to_end import curves, losses, report_of


@pytest.fixture(scope="session")
def answered(tmp_path_factory) -> Path:
    return questions.write(tmp_path_factory.mktemp("data") / "v1")


@pytest.fixture(scope="session")
def declined(tmp_path_factory) -> Path:
    return questions.write(tmp_path_factory.mktemp("data") / "v2", unanswerable=True)


@pytest.fixture
def learning(small):
    return [
        *small, "task=question_answering", "trainer.max_epochs=8", "teacher.epochs=8",
        "data.max_length=24", "output_dir=run",
    ]  # fmt: skip


def test_questions_with_answers(command, learning, answered):
    code, out, err = command(*learning, f"data.path={answered}")
    assert code == 0, err
    report = report_of(Path("run"))
    assert report["task"] == "question_answering"
    assert report["data"]["labels"] == ["start", "end"]
    assert report["data"]["examples"] == {"train": 240, "validation": 60, "test": 80}
    assert report["data"]["evaluated_on"] == "test"
    for model in report["models"]:
        assert list(model["quality"]) == ["f1", "exact_match"]
        assert model["calibration"] is model["per_class"] is None
    student = report["models"][1]
    assert student["quality"]["f1"]["value"] > 0.6
    assert student["quality"]["f1"]["value"] >= student["quality"]["exact_match"]["value"] > 0.4
    assert set(student["fidelity"]) == {"agreement", "kl_divergence"}
    falling = losses(Path("run"))
    assert falling[-1] < 0.95 * falling[0]
    assert "answers as spans" in Path("run/run.log").read_text()
    assert "exact match" in Path("run/report.md").read_text()
    tags = curves(Path("run")).Tags()["scalars"]
    assert {"validation/f1", "validation/exact_match", "final/f1"} <= set(tags)
    assert "f1" in out.lower()
