"""Trainings of several stages, end to end."""

import json
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

RECIPE = [
    "objective=tinybert", "objective.intermediate.epochs=null", "objective.prediction.epochs=1",
    "objective.intermediate.learning_rate=1e-3", "objective.prediction.learning_rate=1e-3",
]  # fmt: skip


def tags(folder):
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_stages_run_one_after_the_other_and_the_control_gets_as_many_epochs(command, small):
    code, _, err = command(*small, *RECIPE, "trainer.log_every_n_steps=1", "output_dir=run")
    assert code == 0, err
    training = json.loads(Path("run/report.json").read_text())["training"]
    assert training["student"]["epochs"] == 3
    assert training["control"]["epochs"] == 3
    scalars = tags("run")
    for term in ("hidden_states", "attention_scores"):
        losses = scalars[f"train/loss/{term}/intermediate"]
        assert losses[-1] < losses[0]
        assert f"train/loss/{term}" not in scalars
    assert "train/loss/soft_labels" in scalars
    # The first stage keeps its rate; the last decays, and the control learns at the same rate.
    assert {round(rate, 9) for rate in scalars["learning_rate/intermediate"]} == {1e-3}
    assert max(scalars["learning_rate"]) == pytest.approx(1e-3, rel=0.2)
    assert scalars["learning_rate"][-1] < 0.5 * max(scalars["learning_rate"])
    assert max(scalars["learning_rate/control"]) == pytest.approx(1e-3, rel=0.2)
    assert Path("run/checkpoints/intermediate/finished.ckpt").is_file()
    assert Path("run/checkpoints/last.ckpt").is_file()


@pytest.mark.parametrize("stops_in", ["intermediate", "prediction"])
def test_a_run_that_stops_in_any_stage_continues_to_the_same_student(
    stops_in, command, small, monkeypatch
):
    code, _, err = command(*small, *RECIPE, "output_dir=whole")
    assert code == 0, err

    from distill.training.module import DistillationModule

    step = DistillationModule.training_step
    steps = {"done": 0}
    # 8 steps an epoch: in the second epoch of the first stage, and in the only one of the last.
    prefix, stop = {"intermediate": ("intermediate/", 12), "prediction": ("", 4)}[stops_in]

    def stopping(self, batch, index):
        steps["done"] += self.prefix == prefix
        if steps["done"] == stop:
            raise RuntimeError("the power went out")
        return step(self, batch, index)

    monkeypatch.setattr(DistillationModule, "training_step", stopping)
    with pytest.raises(RuntimeError, match="power"):
        command(*small, *RECIPE, "output_dir=part")
    monkeypatch.setattr(DistillationModule, "training_step", step)
    code, _, err = command("resume=part")
    assert code == 0, err
    from safetensors.torch import load_file

    whole, part = (load_file(f"{run}/student/model.safetensors") for run in ("whole", "part"))
    assert all(torch.equal(whole[key], part[key]) for key in whole)


def test_projections_resume_too(command, small, monkeypatch):
    """A narrower student: its projections are in last.ckpt, and the run continues exactly."""
    narrow = [*small, *RECIPE, "student=narrow", "student.layers=half", "student.hidden_size=16",
              "student.heads=null", "student.intermediate_size=null",
              "objective.intermediate.attention_scores.weight=0"]  # fmt: skip
    code, _, err = command(*narrow, "output_dir=whole")
    assert code == 0, err

    from distill.training.module import DistillationModule

    step = DistillationModule.training_step

    def stopping(self, batch, index):
        if self.prefix == "intermediate/" and self.current_epoch == 1 and index == 2:
            raise RuntimeError("the power went out")
        return step(self, batch, index)

    monkeypatch.setattr(DistillationModule, "training_step", stopping)
    with pytest.raises(RuntimeError, match="power"):
        command(*narrow, "output_dir=part")
    saved = torch.load("part/checkpoints/intermediate/last.ckpt", weights_only=False)
    assert [key for key in saved["state_dict"] if "projections" in key]
    monkeypatch.setattr(DistillationModule, "training_step", step)
    code, _, err = command("resume=part")
    assert code == 0, err
    from safetensors.torch import load_file

    whole, part = (load_file(f"{run}/student/model.safetensors") for run in ("whole", "part"))
    assert not any("projections" in key for key in whole)
    assert all(torch.equal(whole[key], part[key]) for key in whole)


def test_a_schedule_is_followed_and_logged(command, small):
    code, _, err = command(
        *small, "+schedule@objective.soft_targets.weight=linear",
        "objective.soft_targets.weight.start=0", "objective.soft_targets.weight.end=2",
        "+schedule@objective.soft_targets.temperature=step",
        "objective.soft_targets.temperature.values=[4,1]",
        "objective.soft_targets.temperature.at=[0.5]",
        "trainer.log_every_n_steps=1", "control=false", "output_dir=run",
    )  # fmt: skip
    assert code == 0, err
    scalars = tags("run")
    weights, temperatures = (
        scalars[f"train/{what}/soft_targets"] for what in ("weight", "temperature")
    )
    count = len(weights)
    assert weights == pytest.approx([2 * step / count for step in range(count)], abs=1e-6)
    assert temperatures == [4.0 if step < count / 2 else 1.0 for step in range(count)]
