from types import SimpleNamespace

import pytest
import torch

from distill.training.callbacks import EpochLogger

MONITOR = "control/validation/metric"


def log_epochs(callback: EpochLogger, values: list[float]) -> None:
    module = SimpleNamespace(prefix="control/")
    for epoch, value in enumerate(values):
        trainer = SimpleNamespace(
            callback_metrics={MONITOR: torch.tensor(value)}, current_epoch=epoch, max_epochs=3,
            accumulate_grad_batches=1,
        )  # fmt: skip
        callback.on_train_epoch_start(trainer, module)
        callback.on_train_batch_end(trainer, module, {"loss": torch.tensor(0.5)})
        callback.on_train_epoch_end(trainer, module)


@pytest.mark.parametrize(("mode", "best", "epoch"), [("max", 3.0, 2), ("min", 1.0, 1)])
def test_the_best_epoch_goes_by_the_metrics_direction(mode, best, epoch, caplog):
    callback = EpochLogger("control", MONITOR, mode)
    with caplog.at_level("INFO"):
        log_epochs(callback, [1.0, 3.0, 2.0])
    assert (callback.best, callback.best_epoch) == (best, epoch)
    assert "control: epoch 2 of 3, mean loss 0.5000, validation/metric 3.0000" in caplog.text
    resumed = EpochLogger("control", MONITOR, mode)
    resumed.load_state_dict(callback.state_dict())
    log_epochs(resumed, [2.0])
    assert (resumed.best, resumed.best_epoch) == (best, epoch)


def test_the_state_has_the_key_that_earlier_versions_gave_it():
    assert EpochLogger("student", MONITOR).state_key == "_EpochLines"
