"""The main job through the real command."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from distill.metrics.calibration import fit_temperature

SCHEMA = {
    "run": {"name", "directory", "started", "seconds", "seed", "overrides"},
    "data": {"name", "fingerprint", "examples", "evaluated_on"},
    "environment": {
        "distill", "python", "torch", "transformers", "pytorch_lightning", "processor", "threads",
        "accelerator", "precision",
    },
    "comparison": {"metric", "retention", "size_ratio", "speedup", "gain_over_control"},
    "timing": {"teacher_fine_tune", "teacher_outputs", "student", "control", "measure"},
    "reused": {"teacher", "teacher_outputs"},
}  # fmt: skip
MODEL = {
    "size": {
        "parameters", "parameters_without_embeddings", "bytes", "multiply_accumulates",
        "sequence_length",
    },
    "speed": {
        "latency_ms", "examples_per_second", "batch_size", "threads", "runtime",
        "peak_memory_bytes",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return tmp_path_factory.mktemp("finished")


@pytest.fixture
def run(command, small, finished):
    """One finished run, made by the first test that asks for it."""
    folder = finished / "run"
    if not (folder / "report.json").exists():
        code, out, err = command(*small, f"output_dir={folder}")
        assert code == 0, err
        (finished / "out.txt").write_text(out)
    return folder


def report_of(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())


def test_leaves_everything_that_the_contract_promises(run, finished):
    for name in (
        "report.md", "tradeoff.png", "config.yaml", "student/model.safetensors",
        "student/config.json", "student/tokenizer.json", "student/README.md",
        "control/model.safetensors", "control/README.md", "checkpoints/last.ckpt",
    ):  # fmt: skip
        assert (run / name).stat().st_size > 0, name
    assert list(run.glob("events.out.tfevents.*"))
    assert not list(run.glob("**/hparams.yaml"))
    assert "accuracy" in (finished / "out.txt").read_text()


def test_report_has_every_key_of_schema_1(run):
    report = report_of(run)
    assert report["schema"] == 1
    assert report["task"] == "sequence_classification"
    for part, keys in SCHEMA.items():
        assert keys <= set(report[part]), part
    assert [model["role"] for model in report["models"]] == ["teacher", "student", "control"]
    for model in report["models"]:
        for part, keys in MODEL.items():
            assert keys <= set(model[part])
        assert set(model["quality"]) == {"accuracy", "macro_f1", "matthews_correlation"}
        assert set(model["calibration"]) == {
            "expected_calibration_error",
            "negative_log_likelihood",
        }
        scaled = model["temperature_scaling"]
        assert scaled is None or scaled["temperature"] > 0
    assert report["models"][0]["fidelity"] is None
    assert set(report["models"][1]["fidelity"]) == {"agreement", "kl_divergence"}


def test_size_on_disk_is_that_of_the_files(run, small):
    teacher, student, control = report_of(run)["models"]
    for model, role in ((student, "student"), (control, "control")):
        assert model["size"]["bytes"] == (run / role / "model.safetensors").stat().st_size
    assert teacher["size"]["bytes"] > 4 * teacher["size"]["parameters"]


def test_student_learns_and_is_smaller(run):
    report = report_of(run)
    teacher, student, _ = report["models"]
    assert student["quality"]["accuracy"]["value"] > 0.75
    assert student["size"]["parameters"] < teacher["size"]["parameters"]
    assert student["size"]["multiply_accumulates"] < teacher["size"]["multiply_accumulates"]
    comparison = report["comparison"]
    assert comparison["size_ratio"] == pytest.approx(
        teacher["size"]["parameters"] / student["size"]["parameters"]
    )
    assert comparison["retention"] == pytest.approx(
        student["quality"]["accuracy"]["value"] / teacher["quality"]["accuracy"]["value"]
    )


def test_the_saved_student_is_the_measured_one(run, corpus):
    report = report_of(run)
    classify = pipeline("text-classification", model=str(run / "student"))
    rows = [
        line.rsplit(",", 1) for line in (corpus / "test.csv").read_text().split("\n")[1:] if line
    ]
    said = [answer["label"] for answer in classify([text for text, _ in rows])]
    right = np.mean(
        [answer == label.strip() for answer, (_, label) in zip(said, rows, strict=True)]
    )
    assert right == pytest.approx(report["models"][1]["quality"]["accuracy"]["value"])


def test_temperatures_are_fitted_on_validation_and_measured_on_test(run, corpus):
    tokenizer = AutoTokenizer.from_pretrained(run / "student")
    student = AutoModelForSequenceClassification.from_pretrained(run / "student").eval()
    splits = {}
    for split in ("validation", "test"):
        lines = (corpus / f"{split}.csv").read_text().splitlines()[1:]
        texts, labels = zip(*(line.rsplit(",", 1) for line in lines), strict=True)
        with torch.no_grad():
            logits = student(**tokenizer(list(texts), return_tensors="pt", padding=True)).logits
        ids = torch.tensor([student.config.label2id[label.strip()] for label in labels])
        splits[split] = logits.double(), ids
    scaled = report_of(run)["models"][1]["temperature_scaling"]
    temperature = fit_temperature(*(tensor.numpy() for tensor in splits["validation"]))
    assert scaled["temperature"] == pytest.approx(temperature, rel=1e-3)
    logits, ids = splits["test"]
    loss = torch.nn.functional.cross_entropy(logits / temperature, ids).item()
    assert scaled["negative_log_likelihood"] == pytest.approx(loss, rel=1e-3)


def test_no_checkpoint_holds_the_teacher(run):
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    student = AutoModelForSequenceClassification.from_pretrained(run / "student")
    assert set(state) == {f"student.{key}" for key in student.state_dict()}


def test_tensorboard_has_curves_of_student_and_control(run):
    events = EventAccumulator(str(run)).Reload()
    tags = set(events.Tags()["scalars"])
    assert {
        "train/loss", "train/loss/soft_targets", "train/loss/hard_labels", "validation/accuracy",
        "final/accuracy", "final/parameters", "final/latency_ms",
    } <= tags  # fmt: skip
    assert any("control" in tag for tag in tags)
    assert not {"epoch", "hp_metric"} & tags


def test_a_second_run_reuses_teacher_and_outputs_and_is_equal_to_the_bit(run, command, small):
    code, _, err = command(*small, "output_dir=again")
    assert code == 0, err
    report = report_of(Path("again"))
    assert report["reused"] == dict.fromkeys(
        ("teacher", "teacher_outputs", "control", "baselines"), True
    )
    for what in ("teacher_fine_tune", "teacher_outputs", "control"):
        assert report["timing"][what] == 0
    for role in ("student", "control"):
        first, second = (load_file(f / role / "model.safetensors") for f in (run, Path("again")))
        assert all(torch.equal(first[key], second[key]) for key in first)
    first = report_of(run)
    assert [m["quality"] for m in first["models"]] == [m["quality"] for m in report["models"]]


def test_config_yaml_repeats_the_run(run, command):
    code, _, err = command("--config-path", run, "--config-name", "config", "output_dir=repeated")
    assert code == 0, err
    assert (
        report_of(Path("repeated"))["models"][1]["quality"]
        == report_of(run)["models"][1]["quality"]
    )


def test_a_finished_run_is_neither_repeated_nor_mixed_with_another(run, command, small, finished):
    folder = f"output_dir={run}"
    before = {file: file.stat().st_mtime_ns for file in run.rglob("*") if file.name != "run.log"}
    code, out, err = command(*small, folder)
    assert (code, err) == (0, "")
    assert "accuracy" in out
    for other in ("seed=1", "student=single", "objective.soft_targets.temperature=9"):
        code, _, err = command(*small, folder, other)
        assert code == 2
        assert "it holds a run with other settings" in err
    code, _, err = command("-m", *small, "seed=0,1", "control=false", "output_dir=sweep")
    assert code == 0, err
    # The same names of folders, another base setting.
    code, out, err = command(
        "-m", *small, "seed=0,1", "control=false", "output_dir=sweep", "data.limit=60"
    )
    assert code == 2
    assert err.count("it holds a run with other settings") == 2
    assert not list(Path("sweep").glob("*/error.txt"))
    after = {file: file.stat().st_mtime_ns for file in run.rglob("*") if file.name != "run.log"}
    assert after == before


def test_control_can_be_skipped(run, command, small):
    code, _, err = command(*small, "control=false", "output_dir=alone")
    assert code == 0, err
    report = report_of(Path("alone"))
    assert [model["role"] for model in report["models"]] == ["teacher", "student"]
    assert report["comparison"]["gain_over_control"] is None
    assert report["timing"]["control"] == 0
    assert not Path("alone/control").exists()
    # The student does not depend on whether the control was trained.
    assert report["models"][1]["quality"] == report_of(run)["models"][1]["quality"]


def test_sweep_shares_the_teacher_and_writes_its_own_report(run, command, small):
    code, out, err = command(
        "-m", *small, "student=half,single", "seed=0,1", "control=false", "output_dir=sweep"
    )
    assert code == 0, err
    folders = sorted(path.name for path in Path("sweep").iterdir() if path.is_dir())
    assert folders == ["00-half-seed=0", "01-half-seed=1", "02-single-seed=0", "03-single-seed=1"]
    for folder in folders:
        assert report_of(Path("sweep") / folder)["reused"]["teacher"]
    for name in ("sweep.md", "sweep.csv", "sweep.json", "sweep.html", "front.png"):
        assert (Path("sweep") / name).stat().st_size > 0
    assert "single" in out


def test_a_failing_job_does_not_end_the_sweep(run, command, small):
    code, _, err = command(
        "-m", *small, "student.layers=[9],[0]", "control=false", "output_dir=sweep"
    )
    assert code == 2
    assert "student.layers=[9]" in err
    failed, finished = sorted(path for path in Path("sweep").iterdir() if path.is_dir())
    assert "student.layers" in (failed / "error.txt").read_text()
    assert (finished / "report.json").is_file()


def test_resume_continues_to_the_bit(run, command, small, monkeypatch):
    import pytorch_lightning as pl

    from distill.training.callbacks import EpochLogger

    def stop(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self.description == "student" and trainer.current_epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(EpochLogger, "on_train_epoch_start", stop)
        code, _, _ = command(*small, "output_dir=stopped")
    assert code == 130
    assert Path("stopped/checkpoints/last.ckpt").is_file()
    assert not Path("stopped/student").exists()

    code, _, err = command("resume=stopped")
    assert code == 0, err
    for role in ("student", "control"):
        first, second = (load_file(f / role / "model.safetensors") for f in (run, Path("stopped")))
        assert all(torch.equal(first[key], second[key]) for key in first), role
    # The best epoch may lie before the stop: the last one cannot.
    first, second = (
        torch.load(f / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for f in (run, Path("stopped"))
    )
    assert all(torch.equal(first[key], second[key]) for key in first)
    code, _, err = command("resume=stopped")
    assert code == 2
    assert "finished" in err


def test_config_is_plain_and_complete(run):
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["objective"]["soft_targets"]["temperature"] == 2.0
    assert config["seed"] == 0
