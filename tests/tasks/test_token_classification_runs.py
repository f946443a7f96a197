"""Taggers through the real command: they learn, and every part of the program knows them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, pipeline

from tests.factories import composed, curves, losses, report_of, sentences, write_csv
from tests.tasks.test_token_classification import pieces, tagged_sentences  # noqa: F401

SIZES = (("train", 240, 1), ("validation", 60, 2), ("test", 80, 3))


def write_jsonl(file, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture(scope="session")
def entities(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "entities"
    for split, count, seed in SIZES:
        write_jsonl(folder / f"{split}.jsonl", tagged_sentences(count, seed))
    return folder


@pytest.fixture(scope="session")
def base(tmp_path_factory, pieces):  # noqa: F811
    """A pretrained BERT whose tokenizer cuts the names into pieces."""
    folder = tmp_path_factory.mktemp("models") / "tagger"
    torch.manual_seed(0)
    BertForMaskedLM(
        BertConfig(
            vocab_size=len(pieces),
            hidden_size=32,
            num_hidden_layers=4,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
        )
    ).save_pretrained(folder)
    pieces.save_pretrained(folder)
    return folder


@pytest.fixture
def tagging(entities, base, shared_cache):
    return [
        "task=token_classification", "data=files", f"data.path={entities}", f"teacher.path={base}",
        f"cache_dir={shared_cache}", "data.max_length=40", "trainer.max_epochs=2",
        "teacher.epochs=8", "teacher.learning_rate=3e-3", "optimizer.learning_rate=3e-3",
        "trainer.precision=32-true", "trainer.accelerator=cpu", "student=half",
    ]  # fmt: skip


def models_of(folder):
    return json.loads(Path(folder, "report.json").read_text())["models"]


def test_the_student_learns_and_answers_as_it_was_measured(command, tagging, entities):
    code, out, err = command(
        *tagging, "trainer.max_epochs=6", "task.per_class=true", "output_dir=run"
    )
    assert code == 0, err
    report = report_of(Path("run"))
    assert report["task"] == "token_classification"
    student = report["models"][1]
    assert list(student["quality"]) == ["f1", "precision", "recall", "accuracy"]
    assert list(student["per_class"]) == ["LOC", "PER"]
    rows = [json.loads(line) for line in (entities / "test.jsonl").read_text().splitlines()]
    tags = [tag for row in rows for tag in row["ner_tags"]]
    majority = max(tags.count(tag) for tag in set(tags)) / len(tags)
    assert student["quality"]["accuracy"]["value"] > majority + 0.1
    assert student["quality"]["f1"]["value"] > 0.5  # the majority's is 0
    assert set(student["calibration"]) == {"expected_calibration_error", "negative_log_likelihood"}
    assert set(student["fidelity"]) == {"agreement", "kl_divergence"}
    falling = losses(Path("run"))
    assert falling[-1] < 0.9 * falling[0]
    assert report["comparison"]["metric"] == "f1"
    assert " f1 " in out
    scalars = curves(Path("run")).Tags()["scalars"]
    assert {"validation/f1", "final/f1"} <= set(scalars)
    # Whoever loads the student reads the measured tags.
    tag = pipeline("token-classification", model="run/student")
    right = 0
    for row in rows:
        said = {one["start"]: one["entity"] for one in tag(" ".join(row["tokens"]))}
        starts = np.cumsum([0] + [len(word) + 1 for word in row["tokens"]])
        right += sum(
            said.get(start, "O") == name
            for start, name in zip(starts[:-1].tolist(), row["ner_tags"], strict=True)
        )
    assert right / len(tags) == pytest.approx(student["quality"]["accuracy"]["value"])
    card = Path("run/student/README.md").read_text()
    assert "pipeline_tag: token-classification" in card
    assert 'aggregation_strategy="first"' in card


def test_stored_outputs_are_the_live_teachers(command, tagging):
    """Ragged, memory-mapped; a training on them is the training with the teacher beside it."""
    for name, how in (("stored", "auto"), ("live", "live")):
        code, _, err = command(
            *tagging, f"teacher.outputs={how}", "objective.soft_targets.weight=1", "control=false",
            "objective.hard_labels.weight=0.1", f"output_dir={name}",
        )  # fmt: skip
        assert code == 0, err
    assert losses(Path("stored")) == pytest.approx(losses(Path("live")), rel=1e-4)
    stored, live = (models_of(name)[1]["quality"]["f1"]["value"] for name in ("stored", "live"))
    assert stored == pytest.approx(live, abs=0.01)


def test_sentences_without_tags_and_a_second_run(command, tagging):
    more = write_jsonl(Path("more.jsonl"), tagged_sentences(80, 9, ("tokens", "ignored")))
    code, _, err = command(*tagging, "control=false", "output_dir=first")
    assert code == 0, err
    code, _, err = command(
        *tagging, "teacher.path=first", f"data.unlabeled={more}", "output_dir=second"
    )
    assert code == 0, err
    assert "is used as it is" in Path("second/run.log").read_text()
    for name, value in models_of("second")[0]["quality"].items():
        assert value == pytest.approx(models_of("first")[1]["quality"][name], rel=1e-4)
    report = report_of(Path("second"))
    assert report["data"]["examples"]["unlabelled"] > 40
    assert len(losses(Path("second"))) == 2


def test_two_teachers(command, tagging, base):
    code, _, err = command(
        *(override for override in tagging if not override.startswith("teacher.path")),
        "teacher=ensemble", f"teacher.paths=[{base},{base}]", "teacher.seeds=[0,1]",
        "teacher.epochs=16",
        "control=false", "output_dir=run",
    )  # fmt: skip
    assert code == 0, err
    assert models_of("run")[0]["quality"]["f1"]["value"] > 0.5


def test_an_interrupted_run_goes_on_to_the_bit(command, tagging, monkeypatch):
    from distill.training.callbacks import EpochLogger

    def stop(self, trainer, module):
        if self.description == "student" and trainer.current_epoch == 1:
            raise KeyboardInterrupt

    code, _, err = command(*tagging, "control=false", "output_dir=whole")
    assert code == 0, err
    with monkeypatch.context() as patch:
        patch.setattr(EpochLogger, "on_train_epoch_start", stop)
        code, _, _ = command(*tagging, "control=false", "output_dir=cut")
    assert code == 130
    code, _, err = command("resume=cut")
    assert code == 0, err
    whole, cut = (Path(name, "student/model.safetensors").read_bytes() for name in ("whole", "cut"))
    assert whole == cut
    assert models_of("cut")[1]["quality"] == models_of("whole")[1]["quality"]


@pytest.mark.parametrize(
    ("student", "more"),
    [
        ("narrow", ["student.heads=1"]), ("single", ["student.embedding_size=8"]), ("tiny", []),
    ],
)  # fmt: skip
def test_students(command, tagging, student, more):
    code, _, err = command(
        *tagging, f"student={student}", *more, "control=false", "debug=fast", "data.max_length=40",
        "output_dir=run",
    )  # fmt: skip
    assert code == 0, err
    code, _, err = command(*tagging, "teacher.path=run", "debug=fast", "output_dir=again")
    assert code == 0, err
    assert "is used as it is" in Path("again/run.log").read_text()


OBJECTIVES = sorted(
    file.stem for file in (Path(__file__).parents[2] / "conf/objective").glob("*.yaml")
)


OF_FEATURE_MAPS = {"at", "fitnets", "sp", "pkt", "rkd"}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_takes_a_step_or_says_what_to_set(command, tagging, objective):
    given = [
        *tagging, f"objective={objective}", "debug=fast", "data.max_length=40", "control=false",
        "output_dir=run",
    ]  # fmt: skip
    given += [
        f"objective.{key}.epochs=null"
        for key, node in composed(f"objective={objective}").objective.items()
        if "epochs" in str(node)
    ]
    code, _, err = command(*given)
    if objective in OF_FEATURE_MAPS:
        assert code == 2
        assert "no convolutional network" in err
        assert not Path("run").exists()
        return
    if objective == "pkd":
        assert code == 2
        assert "compares the first token" in err
        assert not Path("run").exists()
        code, _, err = command(*given, "objective.hidden_states.tokens=all")
    assert code == 0, err
    assert Path("run/report.json").is_file()


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ("student=bilstm", "gives one answer to a whole text"),
        ("student=static", "gives one answer to a whole text"),
        ("student.vocabulary=corpus", "teacher and student tokenize differently"),
        ("augmentation=deletion", "task=token_classification belong to single words"),
        ("task.metric=recall", "choose one of f1, accuracy, macro_f1"),
        ("task.metric=macro_f1", "these tags mark entities"),
        ("data.path=texts", "reads sentences as lists of words"),
        ("data.path=texts data.text=text", "holds string in train, not lists of words"),
        ("data.max_length=2", "leaves no room for a word beside 2 special tokens"),
        ("data.layout=columns", "data.layout=columns: it must be auto or conll"),
        ("data.unlabeled=texts/train.csv data.text=tokens", "no such column"),
        ("task=sequence_classification", "train has no such column, it has tokens, ner_tags"),
    ],
)
def test_mistakes_are_answered_in_one_line(overrides, says, command, tagging, monkeypatch):
    def trained(*_, **__):
        raise AssertionError("something was trained")

    monkeypatch.setattr("distill.training.trainer.TrainerFactory.fit", trained)
    write_csv(Path("texts/train.csv"), sentences(40, 1))
    code, _, err = command(*tagging, *overrides.split(" "))
    assert code == 2
    assert err.startswith("error: ")
    assert len(err.strip().splitlines()) == 1
    assert says in err


def test_parts_of_speech_from_columns(command, tagging):
    """Tags that mark no entities, of a file with a word a line."""
    for split, count, seed in SIZES:
        lines = [
            "\n".join(
                f"{word}\t{tag[-3:]}\tx"
                for word, tag in zip(row["tokens"], row["ner_tags"], strict=True)
            )
            for row in tagged_sentences(count, seed)
        ]
        Path("own").mkdir(exist_ok=True)
        Path(f"own/{split}.txt").write_text("\n\n".join(lines))
    code, out, err = command(
        *tagging, "data.path=own", "data.layout=conll", "data.label=2", "task.per_class=true",
        "output_dir=run",
    )  # fmt: skip
    assert code == 0, err
    report = report_of(Path("run"))
    assert report["comparison"]["metric"] == "accuracy"
    student = report["models"][1]
    assert list(student["quality"]) == ["accuracy", "macro_f1"]
    assert list(student["per_class"]) == ["LOC", "O", "PER"]
    assert student["quality"]["accuracy"]["value"] > 0.8
    assert " accuracy " in out


def test_a_cnn_as_the_tagger(command, tagging):
    """A tag is told by the words around it; both read the same tokens."""
    student = ["student=fast", "student.channels=16", "student.widths=[3]"]
    code, _, err = command(*tagging, *student, "output_dir=refused")
    assert code == 2
    assert "student.vocabulary=full" in err
    code, _, err = command(
        *tagging, *student, "student.vocabulary=full", "trainer.max_epochs=20", "control=false",
        "optimizer.learning_rate=1e-2", "output_dir=run",
    )  # fmt: skip
    assert code == 0, err
    report = json.loads(Path("run/report.json").read_text())
    # Of whole entities: a tagger that has learned nothing finds none.
    assert report["models"][1]["quality"]["f1"]["value"] > 0.2
