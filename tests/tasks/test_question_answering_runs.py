"""Question answering through the real command."""

import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from transformers import AutoModelForQuestionAnswering

from tests.cli import test_bad_input
from tests.factories import curves, losses, report_of
from tests.tasks import questions

refused = test_bad_input.refused


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


def test_questions_without_answers_and_a_reader_of_ones_own(command, learning, declined):
    """Windows of a context, each of the data's questions answered or not, and the card's code."""
    code, _, err = command(*learning, f"data.path={declined}", "data.max_length=18")
    assert code == 0, err
    report = report_of(Path("run"))
    student = report["models"][1]
    assert student["quality"]["f1"]["value"] > 0.5  # a third have none: declining all gives 0.33
    notes = " ".join(report["data"]["notes"])
    assert "they are read in overlapping windows" in notes
    assert "what goes beyond is cut" not in notes
    model = AutoModelForQuestionAnswering.from_pretrained("run/student")
    assert model.config.id2label == {0: "start", 1: "end"}
    card = Path("run/student/README.md").read_text()
    assert "pipeline_tag: question-answering" in card
    ask = card.split("```python\n")[1].split("```")[0].replace("PATH/TO/THIS/FOLDER", "run/student")
    right = 0
    for row in questions.asked(20, 9, longest=6):
        said = io.StringIO()
        changed = ask.replace("Your question?", row["question"])
        changed = changed.replace("Where the answer stands.", row["context"])
        with redirect_stdout(said):
            exec(changed, {})
        right += said.getvalue().strip() in row["answers"]["text"][0]
    assert right > 10


def test_a_trained_reader_teaches_as_it_is_and_texts_without_answers_help(
    command, learning, answered, tmp_path
):
    code, _, err = command(*learning, f"data.path={answered}", "control=false", "output_dir=first")
    assert code == 0, err
    more = [
        {"question": row["question"], "context": row["context"]} for row in questions.asked(90, 11)
    ]
    (tmp_path / "more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in more))
    code, _, err = command(
        *learning, f"data.path={answered}", "teacher.path=first", "teacher.fine_tune=false",
        f"data.unlabeled={tmp_path}/more.jsonl", "trainer.max_epochs=2", "output_dir=second",
    )  # fmt: skip
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
    # Repeated, everything is taken from the cache, and the same comes out.
    code, _, err = command(
        *learning, f"data.path={answered}", "teacher.path=first", "teacher.fine_tune=false",
        f"data.unlabeled={tmp_path}/more.jsonl", "trainer.max_epochs=2", "output_dir=third",
    )  # fmt: skip
    assert code == 0, err
    third = json.loads(Path("third/report.json").read_text())
    assert third["reused"] == {
        "teacher": True, "teacher_outputs": True, "control": True, "baselines": None,
    }  # fmt: skip
    assert third["models"][1]["quality"] == report["models"][1]["quality"]


@pytest.mark.parametrize("combine", ["probabilities", "logits", "random"])
def test_an_ensemble_teaches(command, learning, pretrained, answered, combine):
    code, _, err = command(
        *(override for override in learning if not override.startswith("teacher.path")),
        f"data.path={answered}", "teacher=ensemble", f"teacher.paths=[{pretrained},{pretrained}]",
        "teacher.seeds=[0,1]", f"teacher.combine={combine}", "control=false",
        "trainer.max_epochs=2",
    )  # fmt: skip
    assert code == 0, err
    teacher = json.loads(Path("run/report.json").read_text())["models"][0]
    assert teacher["quality"]["f1"]["value"] > 0.6


@pytest.mark.parametrize(
    "objective",
    [
        ["objective=distilbert"],
        ["objective=minilm"],
        ["objective=minilmv2"],
        ["objective=pkd", "objective.hidden_states.tokens=all"],  # no head reads the first alone
    ],
)
def test_objectives_that_have_a_form(command, learning, answered, objective):
    code, _, err = command(
        *learning, f"data.path={answered}", *objective, "debug=fast", "data.max_length=24",
        "control=false",
    )  # fmt: skip
    assert code == 0, err


@pytest.mark.parametrize("student", ["tiny", "single", "narrow", "half student.embedding_size=8"])
def test_other_students(command, learning, answered, student):
    code, _, err = command(
        *learning, f"data.path={answered}", *f"student={student}".split(), "debug=fast",
        "data.max_length=24", "teacher.outputs=live",
    )  # fmt: skip
    assert code == 0, err


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("student=bilstm", "student=bilstm gives one answer to a whole text"),
        ("student=static", "to a whole text, and task=question_answering needs one per token"),
        ("student.vocabulary=corpus", "use a student with the teacher's tokenizer"),
        (
            "augmentation=deletion",
            "augmentation=deletion makes new texts, and the labels of task=question_answering",
        ),
        ("objective=kd_mse", "it has no form for question_answering"),
        ("objective=dkd", "it has no form for question_answering"),
        ("objective=dist", "it has no form for question_answering"),
        ("objective.soft_targets.standardize=true", "standardize=true has no form for question"),
        (
            "+schedule@objective.soft_targets.temperature=flsw",
            "an adaptive schedule needs a distribution over classes",
        ),
        ("task.metric=accuracy", "task.metric=accuracy: choose one of f1, exact_match"),
        ("+task.per_class=true", "task.per_class"),
        ("task.stride=30", "task.stride=30: with data.max_length=24 neighboring windows"),
        ("task.stride=-1", "task.stride=-1: it must be 0 or above"),
        ("task.max_answer_length=0", "task.max_answer_length=0"),
        ("task.no_answer_threshold=2", "changes nothing: every question of the data has an answer"),
        ("data.labels=[a,b]", "data.labels names classes"),
        ("data.label=y", "data.label=y: train has no such column, it has id, question, context"),
        ("teacher.fine_tune=false", "teacher.fine_tune=false forbids"),
        ("data.max_length=4", "data.max_length=4 leaves no room for a context"),
    ],
)
def test_what_is_refused(refused, answered, override, says):
    refused(
        "task=question_answering", f"data.path={answered}", "data.max_length=24",
        *override.split(), says=says,
    )  # fmt: skip


def test_data_of_another_task(refused, corpus):
    refused("task=question_answering", f"data.path={corpus}", says="data.text=question: train has")
