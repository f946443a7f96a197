"""distill.training.callbacks"""

import logging
import signal
import time
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    Callback,
)

log = logging.getLogger(__name__)


class TerminateOnSignal(Callback):
    """SIGTERM ends one of several processes at once, as Ctrl-C does.

    Lightning's own handler tells the others by a broadcast, and waits for ever where they are busy
    with something else.
    """

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        signal.signal(signal.SIGTERM, signal.default_int_handler)


class EpochLogger(Callback):
    """One log line an epoch, for terminals without a progress bar and for ``run.log``."""

    def __init__(self, what: str, monitor: str):
        self.what, self.monitor = what, monitor
        self.best, self.best_epoch, self.started = float("-inf"), 0, 0.0
        self.losses: list[torch.Tensor] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.started, self.losses = time.perf_counter(), []

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, *_: Any
    ) -> None:
        # Kept as it is, without a wait for a GPU; a tensor a step would be a kilobyte each.
        self.losses.append(outputs["loss"].detach().reshape(1))
        if len(self.losses) == 1000:
            self.losses = [torch.cat(self.losses)]

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        metrics = trainer.callback_metrics
        if self.monitor not in metrics:
            return
        value = float(metrics[self.monitor])
        epoch = trainer.current_epoch + 1
        if value > self.best:
            self.best, self.best_epoch = value, epoch
        # Lightning gives a micro-batch's share of its step's loss.
        loss = torch.cat(self.losses).mean().item() * trainer.accumulate_grad_batches
        log.info(
            "%s: epoch %d of %d, mean loss %.4f, %s %.4f, %.0f s",
            self.what, epoch, trainer.max_epochs, loss,
            self.monitor.removeprefix(module.prefix), value, time.perf_counter() - self.started,
        )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.best_epoch = state["best"], state["best_epoch"]
