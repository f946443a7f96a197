"""The control of the usual length trains as on a few thousand labels alone."""

from typing import Any

import pytest

from distill.modeling.architectures.static import StaticConfig, StaticForSequenceClassification
from distill.pipeline.run import _usual_plan
from distill.training.fine_tuning import FineTuningPlan
from distill.training.optimizer import AdamW
from tests.factories import make_model


def plan(model, batch_size: int, rate: float | None) -> FineTuningPlan:
    unused: Any = None
    return FineTuningPlan(
        role="control", name="x", model=model, processor=unused, data=unused, max_length=8,
        train=unused, validation=unused, task=unused, optimizer=AdamW(learning_rate=rate),
        epochs=9, batch_size=batch_size, seed=0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("batch_size", "rate", "epochs", "expected"),
    [
        (128, 4e-3, 4, (5, 32, 2e-3)),
        (128, 4e-3, 7, (7, 32, 2e-3)),
        (32, 4e-3, 5, (5, 32, 4e-3)),
        (8, 4e-3, 5, (5, 8, 4e-3)),
        (128, None, 4, (5, 32, 5e-4)),  # half of the class's own rate
    ],
)
def test_small_networks_take_small_batches(batch_size, rate, epochs, expected):
    model = StaticForSequenceClassification(StaticConfig(vocab_size=9, hidden_size=4, num_labels=2))
    usual = _usual_plan(plan(model, batch_size, rate), epochs)
    assert (usual.epochs, usual.batch_size, usual.learning_rate) == pytest.approx(expected)


def test_transformers_take_the_students_settings():
    given = plan(make_model(layers=1), 128, None)
    usual = _usual_plan(given, 3)
    assert (usual.epochs, usual.batch_size) == (3, 128)
    assert usual.learning_rate == given.learning_rate
