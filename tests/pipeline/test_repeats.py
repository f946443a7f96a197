"""Student and control on several seeds in one run."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from distill.training.callbacks import EpochLogger
from tests.pipeline.test_recipes import RECIPE

pytestmark = pytest.mark.slow


def report_of(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())


def same_weights(first: Path, second: Path) -> bool:
    one, two = (load_file(folder / "model.safetensors") for folder in (first, second))
    return all(torch.equal(one[key], two[key]) for key in one)


def test_each_seed_is_a_run_of_its_own_and_survives_an_interrupt(command, small, monkeypatch):
    # A student with random weights and an objective with learned projections: both depend on the
    # seed, and neither may leak from one seed into the next.
    small = [*small, *RECIPE, "student=tiny", "student.hidden_size=64",
             "objective.intermediate.attention_scores.weight=0"]  # fmt: skip
    code, _, err = command(*small, "seed=1", "control=false", "output_dir=alone")
    assert code == 0, err

    with monkeypatch.context() as patch:

        def stop(self, trainer, module) -> None:
            folder = Path(trainer.checkpoint_callback.dirpath)
            if "repeats" in folder.parts and trainer.current_epoch == 1:
                raise KeyboardInterrupt

        patch.setattr(EpochLogger, "on_train_epoch_start", stop)
        code, _, _ = command(*small, "repeats=2", "output_dir=several")
    assert code == 130
    run = Path("several")
    assert (run / "student/model.safetensors").is_file()
    assert list((run / "repeats/1/checkpoints").rglob("last.ckpt"))
    assert yaml.safe_load((run / "config.yaml").read_text())["repeats"] == 2

    code, out, err = command("resume=several")
    assert code == 0, err
    assert same_weights(run / "repeats/1/student", Path("alone/student"))
    assert not same_weights(run / "repeats/1/student", run / "student")
    assert not (run / "repeats/1/checkpoints").exists()
    report = report_of(run)
    assert [one["seed"] for one in report["repeats"]] == [0, 1]
    assert [model["role"] for model in report["models"]] == ["teacher", "student", "control"]
    first, second = (one["models"] for one in report["repeats"])
    for name, measured in report["models"][1]["quality"].items():
        assert first["student"]["quality"][name] == measured["value"]
    alone = report_of(Path("alone"))["models"][1]
    assert second["student"]["quality"]["accuracy"] == alone["quality"]["accuracy"]["value"]
    gain = report["comparison"]["gain_over_control"]
    assert (gain["seeds"], gain["covers"]) == (2, ["seeds", "examples"])
    gains = [
        one["student"]["quality"]["accuracy"] - one["control"]["quality"]["accuracy"]
        for one in (first, second)
    ]
    assert gain["value"] == pytest.approx(sum(gains) / 2)
    assert set(report["comparison"]["means"]) == {"student", "control"}
    assert "Intervals of averages are 95 % and count seeds" in " ".join(out.split())


def test_repeats_below_one_are_refused(command, small):
    code, _, err = command(*small, "repeats=0")
    assert code == 2
    assert "repeats=0" in err
