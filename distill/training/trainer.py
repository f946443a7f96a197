"""distill.training.trainer"""

import copy
import difflib
import inspect
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    Callback,
    EarlyStopping,
    ModelCheckpoint,
    TQDMProgressBar,
)
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch.utils.data import DataLoader

from distill.core import hardware
from distill.core.errors import UserError
from distill.distributed.collectives import rank_and_world_size
from distill.distributed.workers import ProcessLauncher
from distill.modeling.active_rows_embedding import train_active_rows
from distill.training.callbacks import EpochLogger, TerminateOnSignal
from distill.training.module import DistillationModule

# What this program sets itself; a user who set them too would be ignored.
RESERVED_ARGUMENTS = (
    "callbacks", "logger", "default_root_dir", "enable_checkpointing", "enable_progress_bar",
    "enable_model_summary", "fast_dev_run", "num_sanity_val_steps", "use_distributed_sampler",
    "overfit_batches", "profiler", "plugins", "barebones", "max_time", "max_steps", "min_steps",
)  # fmt: skip


@dataclass(frozen=True)
class TrainingResult:
    """What a training came to.

    Attributes:
        best: the best value of the task's metric on validation.
        best_epoch: when it was reached, from 1.
        epochs: how many were run.
        seconds: wall time.
    """

    best: float
    best_epoch: int
    epochs: int
    seconds: float


class TrainerFactory:
    """A Lightning trainer's settings, checked before anything runs.

    Args:
        max_epochs: at most so many passes over the training split.
        patience: validations without a new best after which training stops; ``None`` never stops.
        accelerator: ``auto``, ``cpu``, ``gpu`` (``cuda``) or ``mps``.
        precision: ``auto`` (bf16 where the device is good at it), ``bf16-mixed``, ``16-mixed`` or
            ``32-true``.
        devices: processes on each machine, each with a device of its own; ``auto``: every GPU.
        strategy: ``auto`` (one process), ``ddp`` and others: see `distill.distributed.workers`.
        num_nodes: machines.
        **lightning: any other argument of ``pytorch_lightning.Trainer`` but those this program
            sets itself.

    Raises:
        UserError: for anything a trainer would refuse or ignore.
    """

    def __init__(
        self,
        max_epochs: int = 3,
        patience: int | None = 3,
        accelerator: str = "auto",
        precision: str | int = "auto",
        devices: int | Literal["auto"] = 1,
        strategy: str = "auto",
        num_nodes: int = 1,
        **lightning: Any,
    ):
        if max_epochs < 1:
            raise UserError(f"trainer.max_epochs={max_epochs}: it must be 1 or more")
        if patience is not None and patience < 1:
            raise UserError(f"trainer.patience={patience}: 1 or more, or null to never stop early")
        known = set(inspect.signature(pl.Trainer.__init__).parameters) - {"self"}
        for name in lightning:
            if name in RESERVED_ARGUMENTS:
                raise UserError(f"trainer.{name} is set by distill itself and cannot be given")
            if name not in known:
                close = difflib.get_close_matches(name, known, 1)
                hint = f": did you mean trainer.{close[0]}?" if close else ""
                raise UserError(f"trainer.{name} is no argument of Lightning's Trainer{hint}")
        try:
            pl.Trainer(
                accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
                enable_progress_bar=False, enable_model_summary=False, **lightning,
            )  # fmt: skip
        except (TypeError, ValueError, MisconfigurationException) as error:
            raise UserError(f"Lightning's Trainer refuses trainer.*: {error}") from error
        self.max_epochs, self.patience = max_epochs, patience
        self.hardware = hardware.resolve_hardware(accelerator, precision)
        self.processes = ProcessLauncher(strategy, devices, num_nodes, self.hardware.accelerator)
        self.lightning = lightning

    def fit(
        self,
        module: DistillationModule,
        train: DataLoader,
        validation: DataLoader,
        checkpoints: Path,
        seed: int,
        logger: Logger | list[Logger] | None = None,
        max_epochs: int | None = None,
        what: str = "student",
        extra_callbacks: Sequence[Callback] = (),
        keep: Literal["best", "last"] = "best",
    ) -> TrainingResult:
        """Train a module and leave the weights in it that were best on validation.

        Continues from ``checkpoints/last.ckpt`` if there is one, to the bit as if it had never
        stopped.

        Args:
            module: what to train.
            train: batches of the training split.
            validation: batches of the validation split.
            checkpoints: folder for ``last.ckpt`` and ``best.ckpt``.
            seed: of everything random in this training.
            logger: where curves go.
            max_epochs: in place of the trainer's own.
            what: how progress calls it.
            extra_callbacks: look on, such as a search that may stop a hopeless training.
            keep: ``last`` leaves the last weights instead and never stops early: for an objective
                that does not teach the head, validation by the task's metric means nothing.
        """
        module.train()  # transformers loads in evaluation mode, and Lightning keeps what it finds
        started = time.perf_counter()
        weights, *came_to = self.processes.run_on_all_ranks(
            self._train, module, train, validation, checkpoints, seed, logger, max_epochs, what,
            extra_callbacks, keep,
        )  # fmt: skip
        if weights:
            state = torch.load(weights, map_location="cpu", weights_only=True)
            module.load_state_dict(state["state_dict"])
        return TrainingResult(*came_to, time.perf_counter() - started)

    def _train(
        self,
        module: DistillationModule,
        train: DataLoader,
        validation: DataLoader,
        checkpoints: Path,
        seed: int,
        logger: Logger | list[Logger] | None,
        max_epochs: int | None,
        what: str,
        extra_callbacks: Sequence[Callback],
        keep: str,
    ) -> tuple[str, float, int, int]:
        """One process's part: the file with the best weights, then what `TrainingResult` tells."""
        rank, count = rank_and_world_size()
        if self.hardware.accelerator == "cpu":
            hardware.keep_freed_memory()
        if self.processes.shards:  # it is wrapped and cut into pieces: the caller keeps it whole
            module = copy.deepcopy(module)
        monitor = f"{module.prefix}validation/{module.task.evaluator.metric_name}"
        best = ModelCheckpoint(
            checkpoints, "best", monitor=monitor, mode="max", save_weights_only=True,
            save_on_train_epoch_end=False, enable_version_counter=False,
        )  # fmt: skip
        last = ModelCheckpoint(
            checkpoints, "last", save_on_train_epoch_end=True, enable_version_counter=False
        )
        epochs = EpochLogger(what, monitor)
        callbacks: list[Callback] = [last, epochs, *extra_callbacks]
        if keep == "best":
            callbacks.insert(0, best)
        if count > 1:
            callbacks.append(TerminateOnSignal())
        if keep == "best" and self.patience is not None:
            callbacks.append(EarlyStopping(monitor, mode="max", patience=self.patience))
        if sys.stderr.isatty():
            callbacks.append(TQDMProgressBar(leave=False))
        settings = {"deterministic": self.hardware.accelerator == "cuda"} | self.lightning
        resume = checkpoints / "last.ckpt"
        # Each process has dropout of its own; the first has that of a process alone.
        pl.seed_everything(seed + rank, verbose=False)
        with warnings.catch_warnings():
            # Lightning asks torch in a way that torch 2.13 deprecates.
            warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.*")
            # Batches come from memory-mapped files: workers would cost more than they bring.
            warnings.filterwarnings("ignore", ".*does not have many workers.*")
            # Fewer batches than log_every_n_steps: the epoch's last values are logged anyway.
            warnings.filterwarnings("ignore", ".*number of training batches.*smaller than.*")
            # A folder that is not empty is what resuming means.
            warnings.filterwarnings("ignore", ".*exists and is not empty.*")
            # What is logged of a validation is the same in every process already.
            warnings.filterwarnings("ignore", ".*sync_dist=True.*when logging on epoch level.*")
            trainer = pl.Trainer(
                accelerator=self.hardware.accelerator,
                precision=self.hardware.precision,
                max_epochs=max_epochs or self.max_epochs,
                callbacks=callbacks,
                logger=(logger if rank == 0 else None) or False,
                enable_progress_bar=sys.stderr.isatty(),
                enable_model_summary=False,
                num_sanity_val_steps=0,
                **self.processes.trainer_settings(
                    module.objective.trains_every_parameter, module.student
                ),
                **settings,
            )
            # FSDP cuts parameters by their shapes, which must be those of the checkpoint.
            ids = None if self.processes.shards else train.dataset.embedding_ids()
            try:
                with train_active_rows(module.student, ids):
                    trainer.fit(
                        module,
                        train,
                        validation,
                        ckpt_path=str(resume) if resume.exists() else None,
                    )
            except SystemExit:  # what Lightning makes of an interrupt
                raise KeyboardInterrupt from None
        value = float(best.best_model_score) if best.best_model_score is not None else float("nan")
        best_epoch = epochs.best_epoch if keep == "best" else trainer.current_epoch
        weights = best.best_model_path or last.last_model_path
        return weights, value, best_epoch, trainer.current_epoch
