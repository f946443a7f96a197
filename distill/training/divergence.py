"""Ends a training at the first value that is no finite number."""

import math

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from distill.core.errors import DivergenceError
from distill.training.module import DistillationModule


class DivergenceGuard(Callback):
    """Raises at the first step whose loss or gradient is not finite, before any weight changes.

    Weights, metrics and the validation loss are looked at before a checkpoint is written, so that
    the last one is good. On a GPU, where each look at a number waits for the device, losses and
    norms are kept there and looked at every ``log_every_n_steps`` steps; the message names the
    first bad one all the same.

    Args:
        description: of the module that is trained.
        module: the module.
        precision: Lightning's name. Under ``16-mixed`` the gradient scaler skips steps whose
            gradient is not finite, which is how it finds its scale.
    """

    def __init__(self, description: str, module: DistillationModule, precision: str):
        self.description, self.module, self.precision = description, module, precision
        self.pending: list[tuple[int, dict[str, Tensor]]] = []

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Look at each step from now on."""
        self.module.on_gradient = self.add_step

    def add_step(self, losses: list[dict[str, Tensor]], gradient_norm: Tensor | None) -> None:
        """Take in the losses of a step's batches and the norm of its gradient."""
        step = self.module.trainer.global_step
        self.pending += [(step, batch) for batch in losses]
        if gradient_norm is not None and self.precision != "16-mixed":
            self.pending.append((step, {"gradient": gradient_norm}))
        every = max(1, getattr(self.module.trainer, "log_every_n_steps", 1))
        if self.module.device.type == "cpu" or (step + 1) % every == 0:
            self.check_steps()

    def check_steps(self) -> None:
        """Look at the steps since the last look.

        Raises:
            DivergenceError: with the first step, and the terms or the gradient.
        """
        pending, self.pending = self.pending, []
        if not pending:
            return
        stacked = torch.stack(
            [value.float().reshape(()) for _, values in pending for value in values.values()]
        )
        if bool(stacked.isfinite().all()):
            return
        numbers = iter(stacked.tolist())
        for step, values in pending:
            bad = [name for name in values if not math.isfinite(next(numbers))]
            if "gradient" in bad:
                raise self._error(f"the gradient of step {step + 1} is not finite")
            if bad:
                terms = ", ".join(name for name in bad if name != "loss") or "the sum of its terms"
                raise self._error(f"the loss of step {step + 1} is not finite ({terms})")

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Look at the weights before they are measured and saved."""
        self._check_weights(trainer)

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Look at the loss and the metrics before the best weights are chosen by them."""
        prefix = f"{self.module.prefix}validation/"
        for name, value in trainer.callback_metrics.items():
            if name.startswith(prefix) and not math.isfinite(float(value)):
                raise self._error(
                    f"{name.removeprefix(prefix)} on validation is not finite after step "
                    f"{trainer.global_step}"
                )

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Look at the weights before they are saved."""
        self._check_weights(trainer)

    def _check_weights(self, trainer: pl.Trainer) -> None:
        self.check_steps()
        for name, weight in self.module.named_parameters():
            if not bool(weight.isfinite().all()):
                raise self._error(
                    f"the weight {name} is not finite after step {trainer.global_step}"
                )

    def _error(self, where: str) -> DivergenceError:
        rate = self.module.optimizer_settings.learning_rate_for(self.module.student)
        advice = [f"a smaller learning rate (it is {rate:.0e})"]
        if self.precision != "32-true":
            advice.append("trainer.precision=32-true")
        if not self.module.trainer.gradient_clip_val:
            advice.append("trainer.gradient_clip_val=1")
        return DivergenceError(self.description, where, " or ".join(advice))
