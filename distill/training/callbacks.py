"""Callbacks of every training: log lines and signals."""

import logging
import operator
import signal
import time
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

log = logging.getLogger(__name__)

# Whether the monitored metric is better the larger or the smaller it is, as Lightning calls it.
MonitorMode = Literal["max", "min"]

# Losses of this many steps are concatenated: a tensor each would take a kilobyte a step.
LOSSES_PER_TENSOR = 1000


class TerminateOnSignal(Callback):
    """Makes SIGTERM end one of several processes at once, as Ctrl-C does.

    Lightning's own handler tells the others by a broadcast, and waits forever where they are busy
    with something else.
    """

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Replace Lightning's handler."""
        signal.signal(signal.SIGTERM, signal.default_int_handler)


class EpochLogger(Callback):
    """Logs one line per epoch, for terminals without a progress bar and for ``run.log``.

    Args:
        description: of the module that is trained.
        monitor: logged name of the metric that selects the best weights.
        mode: ``max`` if the largest value is the best, ``min`` if the smallest is.
    """

    def __init__(self, description: str, monitor: str, mode: MonitorMode = "max"):
        self.description, self.monitor = description, monitor
        self.is_better = operator.gt if mode == "max" else operator.lt
        self.best = float("-inf") if mode == "max" else float("inf")
        self.best_epoch, self.started = 0, 0.0
        self.losses: list[torch.Tensor] = []

    @property
    def state_key(self) -> str:
        """Key of the state in checkpoints: the class's first name, so that old ones resume."""
        return "_EpochLines"

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Start the epoch's clock and mean loss."""
        self.started, self.losses = time.perf_counter(), []

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, *_: Any
    ) -> None:
        """Keep the step's loss on its device, without waiting for a GPU."""
        self.losses.append(outputs["loss"].detach().reshape(1))
        if len(self.losses) == LOSSES_PER_TENSOR:
            self.losses = [torch.cat(self.losses)]

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Log the epoch and note it if it is the best so far."""
        metrics = trainer.callback_metrics
        if self.monitor not in metrics:
            return
        value = float(metrics[self.monitor])
        epoch = trainer.current_epoch + 1
        if self.is_better(value, self.best):
            self.best, self.best_epoch = value, epoch
        # Lightning gives a micro-batch's share of its step's loss.
        loss = torch.cat(self.losses).mean().item() * trainer.accumulate_grad_batches
        name = self.monitor.removeprefix(str(module.prefix))
        log.info(
            "%s: epoch %d of %d, mean loss %.4f, %s %.4f, %.0f s",
            self.description, epoch, trainer.max_epochs, loss, name, value,
            time.perf_counter() - self.started,
        )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """Return the best value and its epoch, for checkpoints."""
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the best value and its epoch."""
        self.best, self.best_epoch = state["best"], state["best_epoch"]
