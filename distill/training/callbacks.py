"""Callbacks of every training: log lines and signals."""

import logging
import math
import operator
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

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

    def __init__(self) -> None:
        before = signal.getsignal(signal.SIGTERM)  # the command's, which knows how it was ended
        self._handler = before if callable(before) else signal.default_int_handler

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Replace Lightning's handler."""
        signal.signal(signal.SIGTERM, self._handler)


@dataclass
class Selection:
    """What counts as a new best: a better metric, or an equal one at a smaller validation loss.

    Attributes:
        mode: ``max`` if the largest value of the metric is the best, ``min`` if the smallest is.
        value: best metric so far.
        loss: validation loss of the best so far.
    """

    mode: MonitorMode = "max"
    value: float = math.nan
    loss: float = math.inf

    def update(self, value: float, loss: float) -> bool:
        """Take a validation in; return whether it is the best so far."""
        better = operator.gt if self.mode == "max" else operator.lt
        is_best = (
            math.isnan(self.value)
            or better(value, self.value)
            or (value == self.value and loss < self.loss)
        )
        if is_best:
            self.value, self.loss = value, loss
        return is_best

    @property
    def at_floor(self) -> bool:
        """Whether no prediction has been right yet: scores and correlations of 0 or below."""
        return self.mode == "max" and self.value <= 0


class _KeptCheckpoint(ModelCheckpoint):
    """A checkpoint that is found again in a folder that was moved or copied."""

    @property
    def _legacy_state_key(self) -> Any:
        """Key of the state in checkpoints of earlier versions: that of Lightning's own class."""
        return self.state_key.replace(type(self).__qualname__, "ModelCheckpoint")

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore Lightning's state, with the paths of this folder."""
        moved = dict(state_dict)
        for key in ("best_model_path", "kth_best_model_path", "last_model_path"):
            if moved.get(key):
                moved[key] = self._moved(moved[key])
        moved["best_k_models"] = {
            self._moved(path): score for path, score in moved.get("best_k_models", {}).items()
        }
        super().load_state_dict({**moved, "dirpath": self.dirpath})

    def _moved(self, path: str) -> str:
        return str(Path(str(self.dirpath)) / Path(path).name)


class LastCheckpoint(_KeptCheckpoint):
    """Keeps ``last.ckpt``, from which a training continues, and the one before it.

    Args:
        directory: folder of the checkpoint.
    """

    def __init__(self, directory: Path):
        super().__init__(
            directory, "last", save_on_train_epoch_end=True, enable_version_counter=False
        )

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Write what was logged so far first: a checkpoint has all points of its curve."""
        for logger in trainer.loggers:
            logger.save()
        super().on_train_epoch_end(trainer, module)


class BestCheckpoint(_KeptCheckpoint):
    """Keeps ``best.ckpt``; ties are broken by the validation loss.

    Args:
        directory: folder of the checkpoint.
        monitor: logged name of the metric.
        loss: logged name of the validation loss.
        mode: direction of the metric.
    """

    def __init__(self, directory: Path, monitor: str, loss: str, mode: MonitorMode):
        super().__init__(
            directory, "best", monitor=monitor, mode=mode, save_weights_only=True,
            save_on_train_epoch_end=False, enable_version_counter=False,
        )  # fmt: skip
        self.loss, self.selection = loss, Selection(mode)

    def check_monitor_top_k(self, trainer: pl.Trainer, current: torch.Tensor | None = None) -> bool:
        """Return whether the present weights are the best so far."""
        if current is None:
            return False
        return self.selection.update(float(current), _metric(trainer, self.loss))

    def state_dict(self) -> dict[str, Any]:
        """Return Lightning's state and the best so far."""
        return super().state_dict() | {"selection": [self.selection.value, self.selection.loss]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore Lightning's state and the best so far."""
        super().load_state_dict(state_dict)
        score = state_dict["best_model_score"]
        before = [math.nan if score is None else float(score), math.inf]  # of older checkpoints
        self.selection.value, self.selection.loss = state_dict.get("selection", before)


class PatientStopping(Callback):
    """Stops after some validations without a new best, unless nothing has been learned yet.

    A metric at its floor says nothing about progress: sparse labels are first predicted when most
    of the way is gone. The number of epochs is then the only limit.

    Args:
        monitor: logged name of the metric.
        loss: logged name of the validation loss, which breaks ties.
        mode: direction of the metric.
        patience: validations without a new best after which training stops.
    """

    def __init__(self, monitor: str, loss: str, mode: MonitorMode, patience: int):
        self.monitor, self.loss, self.patience = monitor, loss, patience
        self.selection, self.waited = Selection(mode), 0

    @property
    def _legacy_state_key(self) -> Any:
        """Key of the state in checkpoints of earlier versions: that of Lightning's own class."""
        key = self._generate_state_key(monitor=self.monitor, mode=self.selection.mode)
        return key.replace(type(self).__qualname__, "EarlyStopping")

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Train no further where the training was stopped before it was interrupted."""
        if self.waited >= self.patience:
            trainer.should_stop = True

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Count the validation, and stop if there were too many without a new best."""
        if trainer.sanity_checking or self.monitor not in trainer.callback_metrics:
            return
        is_best = self.selection.update(_metric(trainer, self.monitor), _metric(trainer, self.loss))
        self.waited = 0 if is_best or self.selection.at_floor else self.waited + 1
        if self.waited >= self.patience:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """Return the best so far and the validations since."""
        return {"best": [self.selection.value, self.selection.loss], "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the best so far and the validations since."""
        if "wait_count" in state:  # Lightning's own, of an earlier version
            self.selection.value, self.waited = float(state["best_score"]), state["wait_count"]
            return
        self.selection.value, self.selection.loss = state["best"]
        self.waited = state["waited"]


def _metric(trainer: pl.Trainer, name: str) -> float:
    return float(trainer.callback_metrics[name])


class EpochLogger(Callback):
    """Logs one line per epoch, for terminals without a progress bar and for ``run.log``.

    Args:
        description: of the module that is trained.
        monitor: logged name of the metric that selects the best weights.
        loss: logged name of the validation loss, which breaks ties.
        mode: ``max`` if the largest value is the best, ``min`` if the smallest is.
    """

    def __init__(self, description: str, monitor: str, loss: str, mode: MonitorMode = "max"):
        self.description, self.monitor, self.loss = description, monitor, loss
        self.selection = Selection(mode)
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
        if self.selection.update(value, _metric(trainer, self.loss)):
            self.best_epoch = epoch
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
        best, loss = self.selection.value, self.selection.loss
        return {"best": best, "best_loss": loss, "best_epoch": self.best_epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the best value and its epoch."""
        self.selection.value = state["best"]
        self.selection.loss = state.get("best_loss", math.inf)  # older checkpoints lack it
        self.best_epoch = state["best_epoch"]
