"""A training that diverges ends at once, with its last good checkpoint and one line."""

import json
from pathlib import Path

import pytest
import torch

from distill.objectives.terms.hard_labels import HardLabels
from tests.factories import make_model


def no_constant(name):
    raise AssertionError(f"{name} is no JSON")


@pytest.fixture
def diverges(command, small, trained):
    """Run with a teacher that is trained already; check what is left."""

    def check(*overrides: str, says: str) -> Path:
        code, _, err = command(
            *small, f"teacher.path={trained}", "control=false", "output_dir=run", *overrides
        )
        assert code == 1, err
        assert err.count("\n") == 1, err
        assert err.startswith("error: student: the training diverged: ")
        assert says in err
        assert "Try a smaller learning rate" in err
        folder = Path("run")
        assert not (folder / "report.json").exists()
        assert not (folder / "student").exists()
        assert says in (folder / "error.txt").read_text()
        for file in folder.rglob("*.json"):
            json.loads(file.read_text(), parse_constant=no_constant)
        for file in (folder / "checkpoints").glob("*.ckpt"):
            state = torch.load(file, weights_only=True)["state_dict"]
            assert all(weight.isfinite().all() for weight in state.values())
        return folder

    return check


def test_a_learning_rate_that_is_far_too_large(diverges):
    diverges("optimizer.learning_rate=1e30", "optimizer.warmup=0", says="step")


def test_the_loss_names_step_and_term(diverges, monkeypatch):
    forward, calls = HardLabels.forward, []

    def breaks(self, student, teacher, batch):
        calls.append(1)
        loss = forward(self, student, teacher, batch)
        return loss * float("inf") if len(calls) == 11 else loss  # 8 steps an epoch

    monkeypatch.setattr(HardLabels, "forward", breaks)
    folder = diverges(says="the loss of step 11 is not finite (hard_labels)")
    assert (folder / "checkpoints" / "last.ckpt").is_file()  # of the first epoch


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_gradient_that_is_not_finite(diverges, monkeypatch, accumulate):
    calls: list[int] = []
    forward = HardLabels.forward

    def breaks(self, student, teacher, batch):
        calls.append(1)
        loss = forward(self, student, teacher, batch)
        if len(calls) == 3:  # a finite loss of an infinite gradient
            loss = loss + (student.logits.sum() * 0).abs().sqrt()
        return loss

    monkeypatch.setattr(HardLabels, "forward", breaks)
    step = 3 if accumulate == 1 else 2
    diverges(
        f"trainer.accumulate_grad_batches={accumulate}",
        says=f"the gradient of step {step} is not finite",
    )


def test_without_clipping_the_weights_are_looked_at(diverges, monkeypatch):
    forward, calls = HardLabels.forward, []

    def breaks(self, student, teacher, batch):
        calls.append(1)
        loss = forward(self, student, teacher, batch)
        return loss + (student.logits.sum() * 0).abs().sqrt() if len(calls) == 8 else loss

    monkeypatch.setattr(HardLabels, "forward", breaks)
    diverges("trainer.gradient_clip_val=null", says="the weight student.")


def test_a_metric_that_is_not_finite(diverges, monkeypatch):
    monkeypatch.setattr(
        "distill.training.module.DistillationModule.evaluate",
        lambda *_: {"accuracy": float("nan")},
    )
    diverges(says="accuracy on validation is not finite after step 8")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_teacher_that_is_not_finite_is_refused_before_training(
    command, small, tokenizer, tmp_path, value
):
    model = make_model()
    with torch.no_grad():
        model.bert.encoder.layer[1].output.dense.weight[0, 0] = value
    model.save_pretrained(tmp_path / "teacher")
    tokenizer.save_pretrained(tmp_path / "teacher")
    code, _, err = command(*small, f"teacher.path={tmp_path}/teacher", "output_dir=run")
    assert code == 2
    assert "weights that are not finite numbers" in err
    assert not Path("run").exists()


def test_outputs_that_are_not_finite_do_not_get_into_the_cache(command, small, tokenizer, tmp_path):
    model = make_model()
    with torch.no_grad():
        model.bert.pooler.dense.bias.fill_(9)
        model.classifier.weight.fill_(3e38)
    model.save_pretrained(tmp_path / "teacher")
    tokenizer.save_pretrained(tmp_path / "teacher")
    code, _, err = command(
        *small, f"teacher.path={tmp_path}/teacher", "output_dir=run", "cache_dir=cache"
    )
    assert (code, err.count("\n")) == (2, 1)
    assert "not a finite number" in err
    assert not list(Path("cache").rglob("logits.npy"))
