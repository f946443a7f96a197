"""Recipes: a loss, a student, a source. The real command with toys from outside the package."""

import json
from pathlib import Path

import pytest
import torch

from tests.factories import curves
from tests.recipes.loss.cosine_logits import CosineLogits

HERE = Path(__file__).parent


def report() -> dict:
    return json.loads(Path("run/report.json").read_text())


def test_loss(command, small):
    """The objective of the recipe is composed, trained on and logged."""
    code, _, err = command(
        "--config-dir", str(HERE / "loss"), *small, "objective=cosine_logits", "output_dir=run",
        "allow_code=[tests]", "trainer.log_every_n_steps=1",
    )  # fmt: skip
    assert code == 0, err
    values = [event.value for event in curves(Path("run")).Scalars("train/loss/cosine")]
    # Student and teacher start from heads of the same prior: the first value is next to 0.
    assert len(values) > 4 and all(0 < value < 2 for value in values)


def test_the_loss_itself():
    """Oracle: equal directions cost nothing, opposite ones 2."""
    logits = torch.tensor([[1.0, -1.0], [2.0, 0.5]])
    term = CosineLogits()
    assert term.compare(logits, 3 * logits, 1.0, {}).item() == pytest.approx(0, abs=1e-6)
    assert term.compare(logits, -logits, 1.0, {}).item() == pytest.approx(2)


def test_student(command, small):
    """The student of the recipe is checked, built and measured."""
    outside = ["--config-dir", str(HERE / "student"), "allow_code=[tests]"]
    code, _, err = command(*outside, *small[:-1], "student=last_layers", "output_dir=run")
    assert code == 0, err
    students = [model for model in report()["models"] if model["role"] == "student"]
    assert students[0]["name"] == "last"
    code, _, err = command(*outside, *small[:-1], "student=last_layers", "student.count=9")
    assert code == 2 and "student.count=9: the teacher has 4 layers" in err


def test_source(command, small):
    """The source of the recipe is read; its own option and the common ones apply."""
    settings = [one for one in small if not one.startswith("data")]
    code, _, err = command(
        "--config-dir", str(HERE / "source"), *settings, "data=generated", "data.count=90",
        "data.limit=80", "data.max_length=24", "output_dir=run", "allow_code=[tests]",
    )  # fmt: skip
    assert code == 0, err
    assert report()["data"]["examples"] == {"train": 80, "validation": 40, "test": 40}
    assert report()["data"]["name"] == "generated"


def test_an_option_that_a_toy_does_not_have_is_refused(command, small):
    settings = [one for one in small if not one.startswith("data")]
    code, _, err = command(
        "--config-dir",
        str(HERE / "source"),
        *settings,
        "data=generated",
        "+data.number=9",
        "allow_code=[tests]",
    )
    assert code == 2 and "data.number" in err
