"""``distill-export --push``: what is uploaded to the hub, and what is not; the hub is a fake."""

import json
import shutil

import httpx
import pytest
from huggingface_hub import ModelCard

from distill.cli.export import main
from distill.core.checksums import write_checksums
from distill.core.errors import UserError
from distill.export.export import ExportOptions, export_model
from distill.export.push import push
from distill.reporting.card import write_exported_forms, write_model_card
from tests.reporting.example_reports import typed_report
from tests.reporting.test_card import PROVENANCE


class FakeHub:
    """Stands for ``huggingface_hub.HfApi``: remembers what it is asked for."""

    calls: list
    error: Exception | None

    def create_repo(self, repository, **options):
        if self.error is not None:
            raise self.error
        self.calls.append(("create", repository, options))
        return f"hub/{repository}"

    def upload_folder(self, **options):
        self.calls.append(("upload", options["repo_id"], options))


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr(FakeHub, "calls", [], raising=False)
    monkeypatch.setattr(FakeHub, "error", None, raising=False)
    monkeypatch.setattr("huggingface_hub.HfApi", FakeHub)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return FakeHub


@pytest.fixture
def student(tmp_path):
    """A saved model with its card and one exported form, whose content does not matter."""
    folder = tmp_path / "run" / "student"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "config.json").write_text("{}")
    write_checksums(folder)
    typed = typed_report()
    write_model_card(folder, typed, typed.model("student"), PROVENANCE)
    return folder


def test_the_folder_is_uploaded_into_a_private_repository(hub, student):
    assert push(student, "me/tiny") == "hub/me/tiny"
    (kind, name, options), (uploaded, target, files) = hub.calls
    assert (kind, name, uploaded, target) == ("create", "me/tiny", "upload", "me/tiny")
    assert options == {"private": True, "exist_ok": True}
    assert files["folder_path"] == student and "training.json" in files["ignore_patterns"]


def test_what_is_wrong_is_found_before_anything_is_uploaded(hub, student, monkeypatch):
    with pytest.raises(UserError, match="the hub's names are USER/NAME"):
        push(student, "tiny")
    (student / "model.safetensors").write_bytes(b"weighty")
    with pytest.raises(UserError, match=r"is damaged .*nothing is uploaded"):
        push(student, "me/tiny")
    (student / "model.safetensors").write_bytes(b"weights")
    (student / "onnx").mkdir()
    (student / "onnx" / "model.onnx").write_bytes(b"other")
    form = {"file": "model.onnx", "sha256": "0", "passed": True}
    record = {"export_format": 1, "forms": {"onnx": form}, "tokenizer_file": "tokenizer.json",
              "tokenizer_sha256": "0"}  # fmt: skip
    (student / "onnx" / "export.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="is not the file that was checked"):
        push(student, "me/tiny")
    shutil.rmtree(student / "onnx")
    (student / "README.md").unlink()
    with pytest.raises(UserError, match="has no model card"):
        push(student, "me/tiny")
    assert not hub.calls


def test_without_the_hub_there_is_one_line(hub, student, monkeypatch, capsys):
    FakeHub.error = httpx.ConnectError("no route to host")
    with pytest.raises(UserError, match="me/tiny: the hub is not reached: no route to host"):
        push(student, "me/tiny")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    # Said before anything is exported: the folder is no run that could be.
    assert main([str(student.parent), "--push", "me/tiny"]) == 2
    err = capsys.readouterr().err
    assert err == "error: --push: the hub is switched off (HF_HUB_OFFLINE is set)\n"


def test_other_errors_are_not_taken_for_those_of_the_network(hub, student):
    FakeHub.error = KeyError("a mistake of ours")
    with pytest.raises(KeyError):
        push(student, "me/tiny")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--push", "me/tiny", "-o", "elsewhere"], "leave out -o and teacher"),
        (["--push", "me/tiny", "--what", "teacher"], "leave out -o and teacher"),
        (["--public"], "--public is about --push"),
    ],
)
def test_options_that_do_not_go_together(arguments, message, student, capsys):
    assert main([str(student.parent), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_card_names_the_forms_once(student):
    form = {"bytes": 4_890_000, "cpu_ms": {"p50": 0.0353}, "agreement": 0.9933, "passed": True}
    write_exported_forms(student, {"onnx/model.onnx": form})
    write_exported_forms(student, {"onnx/model.onnx": form, "numpy/weights.npz": form})
    card = ModelCard.load(student / "README.md")
    assert card.text.count("## Exported forms") == 1
    assert "| `onnx/model.onnx` | 4.9 | 0.0353 ms | 99.3% |\n" in card.text
    assert "| `numpy/weights.npz` |" in card.text
    assert card.data.license == "apache-2.0" and "Limits:" in card.text


def test_an_export_adds_its_forms_to_the_card(runs, monkeypatch):
    monkeypatch.setattr("distill.evaluation.speed.EXAMPLES", 4)
    run = runs("pairs", "cnn")
    card = run.folder / "student" / "README.md"
    card.write_text("---\nlicense: mit\n---\n# A model\n")
    try:
        export_model(run.folder, ExportOptions(format="numpy"))
        text = card.read_text()
    finally:
        card.unlink()
        shutil.rmtree(run.folder / "student" / "numpy", ignore_errors=True)
    assert "# A model\n\n## Exported forms\n" in text and "| `numpy/weights.npz` |" in text
