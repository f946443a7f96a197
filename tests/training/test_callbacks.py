from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

from distill.training.callbacks import BestCheckpoint, EpochLogger, PatientStopping, Selection

MONITOR, LOSS = "control/validation/metric", "control/validation/loss"


def log_epochs(callback: EpochLogger, values: list[float]) -> None:
    module = SimpleNamespace(prefix="control/")
    for epoch, value in enumerate(values):
        trainer = SimpleNamespace(
            callback_metrics={MONITOR: torch.tensor(value), LOSS: torch.tensor(1.0)},
            current_epoch=epoch, max_epochs=3, accumulate_grad_batches=1,
        )  # fmt: skip
        callback.on_train_epoch_start(trainer, module)
        callback.on_train_batch_end(trainer, module, {"loss": torch.tensor(0.5)})
        callback.on_train_epoch_end(trainer, module)


@pytest.mark.parametrize(("mode", "best", "epoch"), [("max", 3.0, 2), ("min", 1.0, 1)])
def test_the_best_epoch_goes_by_the_metrics_direction(mode, best, epoch, caplog):
    callback = EpochLogger("control", MONITOR, LOSS, mode)
    with caplog.at_level("INFO"):
        log_epochs(callback, [1.0, 3.0, 2.0])
    assert (callback.selection.value, callback.best_epoch) == (best, epoch)
    assert "control: epoch 2 of 3, mean loss 0.5000, validation/metric 3.0000" in caplog.text
    resumed = EpochLogger("control", MONITOR, LOSS, mode)
    resumed.load_state_dict(callback.state_dict())
    log_epochs(resumed, [2.0])
    assert (resumed.selection.value, resumed.best_epoch) == (best, epoch)


def test_the_state_has_the_key_that_earlier_versions_gave_it():
    assert EpochLogger("student", MONITOR, LOSS).state_key == "_EpochLines"


@pytest.mark.parametrize(
    ("validations", "best"),
    [
        ([(0.0, 3.0), (0.0, 2.0), (0.0, 2.5)], 1),  # the loss decides among equal metrics
        ([(0.5, 3.0), (0.4, 1.0), (0.5, 3.0)], 0),  # but not between different ones
        ([(0.5, 3.0), (0.5, 3.0)], 0),
        ([(0.5, 1.0), (0.6, 9.0)], 1),
    ],
)
def test_ties_are_broken_by_the_loss(validations, best):
    selection = Selection("max")
    found = [index for index, each in enumerate(validations) if selection.update(*each)]
    assert found[-1] == best
    mirrored = Selection("min")
    assert [
        index for index, (value, loss) in enumerate(validations) if mirrored.update(-value, loss)
    ] == found


@pytest.mark.parametrize(
    ("validations", "stops"),
    [
        ([(0.0, 1.0)] * 9, None),  # nothing has been right yet: no reason to stop
        ([(-0.1, 1.0)] * 9, None),
        ([(0.0, 1.0), (0.5, 1.0), (0.4, 1.0), (0.4, 0.5)], 3),
        ([(0.5, 1.0), (0.5, 0.9), (0.5, 0.8), (0.5, 0.7)], None),
        ([(0.5, 1.0), (0.5, 1.1), (0.5, 1.2), (0.6, 0.7)], 2),
    ],
)
def test_patience(validations, stops):
    callback = PatientStopping(MONITOR, LOSS, "max", patience=2)
    for index, (value, loss) in enumerate(validations):
        metrics = {MONITOR: torch.tensor(value), LOSS: torch.tensor(loss)}
        trainer = SimpleNamespace(
            callback_metrics=metrics, sanity_checking=False, should_stop=False
        )
        resumed = PatientStopping(MONITOR, LOSS, "max", patience=2)
        resumed.load_state_dict(callback.state_dict())
        callback = resumed
        callback.on_validation_end(trainer, None)
        assert trainer.should_stop == (stops == index)
        if trainer.should_stop:
            return


def test_states_of_earlier_versions_are_found():
    """Checkpoints of earlier versions resume."""
    names = (MONITOR, LOSS, "max")
    best = BestCheckpoint(Path("x"), *names)
    lightning = ModelCheckpoint(
        "x", "best", monitor=MONITOR, mode="max", save_on_train_epoch_end=False
    )
    assert best._legacy_state_key == lightning.state_key
    stopping = PatientStopping(*names, 3)
    assert stopping._legacy_state_key == EarlyStopping(MONITOR, mode="max").state_key
    stopping.load_state_dict({"wait_count": 2, "best_score": torch.tensor(0.5), "patience": 3})
    assert (stopping.waited, stopping.selection.value) == (2, 0.5)
