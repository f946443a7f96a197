"""What is measured is what is saved: fp32, whatever a model is trained in."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import distill
from tests.factories import make_model, sentences, write_csv


@pytest.fixture
def numbers(tmp_path) -> Path:
    for split, count in (("train", 96), ("validation", 32), ("test", 100)):
        rows = sentences(count, len(split))
        for index, row in enumerate(rows):
            row["label"] = str((row["label"] == "positive") + index % 7 / 10)
        write_csv(tmp_path / "d" / f"{split}.csv", rows)
    return tmp_path / "d"


def test_regression_under_bf16_is_repeated_by_transformers_to_the_last_digit(
    numbers, pretrained, tmp_path
):
    report = distill.run(
        [
            "data=files",
            f"data.path={numbers}",
            "task=regression",
            f"teacher.path={pretrained}",
            "student=half",
            "control=false",
            "teacher.epochs=2",
            "trainer.max_epochs=2",
            "teacher.learning_rate=3e-3",
            "optimizer.learning_rate=3e-3",
            "data.max_length=24",
            "trainer.accelerator=cpu",
            "trainer.precision=bf16-mixed",
            f"cache_dir={tmp_path}/cache",
            f"output_dir={tmp_path}/run",
        ]
    )
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run" / "student").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run" / "student")
    with (numbers / "test.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    with torch.no_grad():
        said = np.array(
            [float(model(**tokenizer(row["text"], return_tensors="pt")).logits) for row in rows]
        )
    labels = np.array([float(row["label"]) for row in rows])
    quality = report.models[1].quality
    assert quality["mean_squared_error"].value == pytest.approx(
        np.mean((said - labels) ** 2), rel=1e-5
    )
    assert quality["pearson"].value == pytest.approx(np.corrcoef(said, labels)[0, 1], rel=1e-5)
    assert len({round(value, 6) for value in said}) > 60
    stored = np.load(next((tmp_path / "cache" / "outputs").glob("*/logits.npy")))
    assert len(np.unique(stored)) > 0.6 * len(stored)


def test_loggers_and_callbacks_of_lightning_are_used(command, small, trained):
    code, _, err = command(
        *small, f"teacher.path={trained}", "control=false", "output_dir=run",
        "+trainer.logger.mine._target_=pytorch_lightning.loggers.CSVLogger",
        "+trainer.logger.mine.save_dir=logs",
        "+trainer.callbacks.sum._target_=pytorch_lightning.callbacks.LambdaCallback",
        "+trainer.callbacks.early._target_=pytorch_lightning.callbacks.EarlyStopping",
        "+trainer.callbacks.early.monitor=validation/accuracy",
        "+trainer.callbacks.early.mode=max",
        "+trainer.callbacks.early.stopping_threshold=0.0",
    )  # fmt: skip
    assert code == 0, err
    (file,) = Path("logs").rglob("metrics.csv")
    with file.open() as lines:
        rows = list(csv.DictReader(lines))
    assert any(row.get("validation/accuracy") for row in rows)
    # It stops after the first epoch of two: any accuracy reaches the threshold.
    assert "epoch 1 of 2" in Path("run/run.log").read_text()
    assert "epoch 2 of 2" not in Path("run/run.log").read_text()


def test_a_saved_student_knows_how_long_a_text_may_be(tmp_path, tokenizer):
    from distill.modeling.loading import fit_processor

    model = make_model()
    assert tokenizer.model_max_length > 10**6
    fit_processor(tokenizer, model.config).save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.model_max_length == model.config.max_position_embeddings
    assert tokenizer.model_max_length > 10**6  # the teacher's own stays as it is
    ids = loaded("film " * 500, truncation=True, return_tensors="pt")
    assert model(**ids).logits.isfinite().all()
