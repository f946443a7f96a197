"""``distill-export``: every format, what it refuses, and the command."""

import json
from pathlib import Path

import numpy as np
import pytest

from distill.cli.export import main
from distill.export.export import ExportRefusedError, check_export, export_model
from distill.export.format_names import NAMES
from distill.export.formats import EXPORT_FORMATS, ExportSource
from tests.factories import BAD, FILLER, GOOD, make_model, make_tokenizer
from tests.student.test_small_nets import cnn

TEXTS = ["the good film", "a dull plot", "", "very very cold"]


@pytest.fixture(scope="module")
def words():
    return make_tokenizer(FILLER + GOOD + BAD)


def test_names_in_the_help_are_the_formats():
    assert set(NAMES) == set(EXPORT_FORMATS)


def test_a_transformer_does_not_run_in_numpy(words):
    source = ExportSource(make_model().eval(), words, ["a", "b"], 16)
    assert "BertForSequenceClassification" in EXPORT_FORMATS["numpy"].obstacle(source)


@pytest.mark.parametrize("fault", ["embeddings", "classifier.bias", "hidden.weight"])
def test_an_export_that_differs_is_refused(fault, words, tmp_path):
    source = ExportSource(cnn(vocab_size=len(words)), words, ["a", "b", "c"], 16)
    EXPORT_FORMATS["numpy"].write(source, tmp_path)
    check = check_export(source, EXPORT_FORMATS["numpy"], tmp_path, TEXTS)
    assert check.texts == 4 and check.changed_answers == 0 and check.largest_difference < 1e-5
    assert check.torch_cpu_ms > 0 < check.export_cpu_ms
    with np.load(tmp_path / "weights.npz") as stored:
        weights = {name: stored[name].copy() for name in stored.files}
    weights[fault][0] += 0.5
    if fault == "embeddings":
        weights[fault] += 0.01
    np.savez(tmp_path / "weights.npz", **weights)
    with pytest.raises(ExportRefusedError, match="differs from the model's by"):
        check_export(source, EXPORT_FORMATS["numpy"], tmp_path, TEXTS)


def test_the_command(command, small, corpus, capsys, monkeypatch):
    code, _, err = command(
        *small, "student=fastest", "student.hidden_size=8", "debug=fast", "control=false",
        "output_dir=run",
    )  # fmt: skip
    assert code == 0, err
    assert main(["run", "-o", "exported"]) == 0
    said = capsys.readouterr().out
    assert "wrote exported" in said and "0 answers change" in said
    record = json.loads(Path("exported/export.json").read_text())
    assert record["model"] == "student" and record["check"]["texts"] == 80
    assert {file.name for file in Path("exported").iterdir()} == {
        "config.json", "weights.npz", "tokenizer.json", "predictor.py", "export.json",
    }  # fmt: skip

    # What is there is kept; what does not exist is said in one line.
    for arguments, message in (
        (["run", "-o", "exported"], "exported exists"),
        (["run", "--what", "control"], "has no control"),
        (["nowhere"], "no such folder"),
        (["exported", "-o", "other"], "config.yaml is missing"),
    ):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err

    # A refused export leaves nothing.
    monkeypatch.setattr(type(EXPORT_FORMATS["numpy"]), "tolerance", -1.0)
    assert main(["run", "-o", "refused"]) == 1
    assert "refused: a logit of the export differs" in capsys.readouterr().err
    assert not list(Path().glob("refused*"))
    with pytest.raises(ExportRefusedError):
        export_model(Path("run"), "student", "numpy", None)
    assert not list(Path("run/student").glob("numpy*"))
