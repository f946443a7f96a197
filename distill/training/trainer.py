"""Training of a module by Lightning: settings checked first, resumed exactly, best weights kept."""

import copy
import difflib
import inspect
import math
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, TQDMProgressBar
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from distill.core import hardware
from distill.core.errors import UserError
from distill.data.dataset import DistillationDataset
from distill.distributed.environment import ProcessRank
from distill.distributed.launcher import ProcessLauncher
from distill.modeling.active_rows_embedding import train_active_rows
from distill.modeling.row_embedding import sparse_row_gradients
from distill.training import checkpoints
from distill.training.callbacks import (
    BestCheckpoint,
    EpochLogger,
    LastCheckpoint,
    MonitorMode,
    PatientStopping,
    TerminateOnSignal,
)
from distill.training.divergence import DivergenceGuard
from distill.training.loggers import TensorBoardLogger
from distill.training.module import DistillationModule

# Arguments of Lightning's Trainer that this program sets itself: a user's value would be ignored.
RESERVED_ARGUMENTS = (
    "default_root_dir", "enable_checkpointing", "enable_progress_bar",
    "enable_model_summary", "fast_dev_run", "num_sanity_val_steps", "use_distributed_sampler",
    "overfit_batches", "profiler", "plugins", "barebones", "max_time", "max_steps", "min_steps",
)  # fmt: skip

# Arguments that change nothing here: there is no test loop of Lightning's, no registry.
IDLE_ARGUMENTS = (
    "limit_test_batches", "limit_predict_batches", "reload_dataloaders_every_n_epochs",
    "model_registry", "enable_autolog_hparams", "sync_batchnorm",
)  # fmt: skip

# Largest number that torch and Lightning can count to.
LARGEST = 2**63 - 1

# Warnings of Lightning that do not apply while it trains here.
IRRELEVANT_WARNINGS = (
    # Lightning uses torch in a way that torch 2.13 deprecates.
    ".*isinstance.treespec, LeafSpec.*",
    # Batches come from memory-mapped files: loader processes would cost more than they bring.
    ".*does not have many workers.*",
    # Fewer batches than log_every_n_steps: the epoch's last values are logged anyway.
    ".*number of training batches.*smaller than.*",
    # A folder that is not empty is what resuming means.
    ".*exists and is not empty.*",
    # Metrics of a validation are the same in every process already.
    ".*sync_dist=True.*when logging on epoch level.*",
)


@dataclass(frozen=True)
class TrainingResult:
    """Result of one training run.

    Attributes:
        best: best value of the task's selection metric on validation; ``None`` where the last
            weights are kept.
        best_epoch: the epoch with that value, from 1; of equal ones that with the smallest loss.
        epochs: number of epochs that were run.
        seconds: wall time.
    """

    best: float | None
    best_epoch: int
    epochs: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """What one training run trains, on which data, and what it keeps.

    Attributes:
        module: trained in place.
        train: training split.
        validation: validation split.
        batch_size: examples of a step, over all processes.
        seed: of batch order, dropout and everything else random in this training.
        checkpoint_dir: folder for ``last.ckpt`` and ``best.ckpt``; the training continues from
            ``last.ckpt`` if there is one.
        logger: of the curves.
        max_epochs: maximum number of epochs; ``None``: the trainer's own setting.
        description: of the module, in log lines.
        callbacks: further ones, such as a search's pruning.
        keep: ``best`` leaves the weights in the module that were best on validation; ``last``
            leaves the last ones and never stops early, for an objective that does not train the
            head and whose validation by the task's metric therefore means nothing.
    """

    module: DistillationModule
    train: DistillationDataset
    validation: DistillationDataset
    batch_size: int
    seed: int
    checkpoint_dir: Path
    logger: Logger | list[Logger] | None = None
    max_epochs: int | None = None
    description: str = "student"
    callbacks: Sequence[Callback] = ()
    keep: Literal["best", "last"] = "best"

    @property
    def monitor(self) -> str:
        """Logged name of the metric by which the best weights are selected."""
        return f"{self.module.prefix}validation/{self.module.task.evaluator.metric_name}"

    @property
    def monitor_mode(self) -> MonitorMode:
        """Direction of that metric."""
        return "max" if self.module.task.evaluator.selection_metric.higher_is_better else "min"


class TrainerFactory:
    """Settings of Lightning's Trainer, checked before anything runs.

    Args:
        max_epochs: maximum number of passes over the training split.
        patience: validations without a new best after which training stops; ``None`` never stops.
        accelerator: ``auto``, ``cpu``, ``gpu`` (``cuda``) or ``mps``.
        precision: ``auto`` (bf16 on devices that are good at it), ``bf16-mixed``, ``16-mixed`` or
            ``32-true``.
        devices: processes on each machine, each with a device of its own; ``auto``: every GPU.
        strategy: ``auto`` (one process), ``ddp`` or ``fsdp``: see
            :class:`distill.distributed.launcher.ProcessLauncher`.
        num_nodes: machines.
        logger: further loggers of the student's training: one, a list, or by any names.
        callbacks: further callbacks of it, likewise.
        **lightning: any other argument of ``pytorch_lightning.Trainer`` except those that this
            program sets itself.

    Raises:
        UserError: for any setting that a trainer would refuse or ignore.
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
        logger: Any = None,
        callbacks: Any = None,
        **lightning: Any,
    ):
        if max_epochs < 1:
            raise UserError(f"trainer.max_epochs={max_epochs}: it must be 1 or more")
        if patience is not None and patience < 1:
            raise UserError(f"trainer.patience={patience}: 1 or more, or null to never stop early")
        _check_numbers(max_epochs, lightning)
        _check_lightning_arguments(lightning)
        self.loggers: list[Logger] = _instances("trainer.logger", logger, Logger)
        self.callbacks: list[Callback] = _instances("trainer.callbacks", callbacks, Callback)
        self.max_epochs, self.patience = max_epochs, patience
        self.hardware = hardware.resolve_hardware(accelerator, precision)
        self.launcher = ProcessLauncher(strategy, devices, num_nodes, self.hardware.accelerator)
        self.lightning = lightning

    def check_length(
        self, option: str, train: int, validation: int, batch_size: int, epochs: int
    ) -> None:
        """Refuse limits and intervals by which a training would not train or never validate.

        Args:
            option: option of the number of epochs.
            train: number of training examples.
            validation: number of validation examples.
            batch_size: examples of a batch, over all processes.
            epochs: maximum number of epochs.

        Raises:
            UserError: naming the setting.
        """
        batches = -(-train // batch_size)
        for name, available in (("train", batches), ("val", -(-validation // batch_size))):
            limit = self.lightning.get(f"limit_{name}_batches")
            if isinstance(limit, float) and int(limit * available) < 1:
                raise UserError(
                    f"trainer.limit_{name}_batches={limit}: of {available} batches none is left"
                )
            if limit is not None and name == "train":
                batches = (
                    int(limit * available) if isinstance(limit, float) else min(limit, batches)
                )
        every = self.lightning.get("check_val_every_n_epoch", 1)
        interval = self.lightning.get("val_check_interval")
        if every is None:
            batches *= epochs
        elif every > epochs:
            raise UserError(
                f"trainer.check_val_every_n_epoch={every}: the training has {epochs} epochs "
                f"({option}) and would never be validated"
            )
        if isinstance(interval, int) and not isinstance(interval, bool) and interval > batches:
            raise UserError(
                f"trainer.val_check_interval={interval}: the training has {batches} batches"
                f"{'' if every is None else ' an epoch'} and would never be validated"
            )
        if isinstance(interval, float) and int(interval * batches) < 1:
            raise UserError(
                f"trainer.val_check_interval={interval}: it is less than one of {batches} batches"
            )

    def fit(self, plan: TrainingPlan) -> TrainingResult:
        """Train a module and leave the weights in it that the plan says.

        Continues from the last whole checkpoint if there is one, to the bit as if it had never
        stopped.
        """
        self.check_length(
            "trainer.max_epochs" if plan.max_epochs is None else "epochs",
            plan.train.examples_per_epoch or len(plan.train), len(plan.validation),
            plan.batch_size, plan.max_epochs or self.max_epochs,
        )  # fmt: skip
        # transformers loads in evaluation mode, and Lightning keeps the mode it finds.
        plan.module.train()
        started = time.perf_counter()
        found = checkpoints.find_checkpoint(
            plan.checkpoint_dir, plan.description, keeps_best=plan.keep == "best"
        )
        for logger in plan.logger if isinstance(plan.logger, list) else [plan.logger]:
            if isinstance(logger, TensorBoardLogger):
                logger.drop_steps_from(found.step if found else 0)
        weights, best, best_epoch, epochs = self.launcher.run_on_all_ranks(
            self._train, plan, found.file if found else None
        )
        if weights:
            plan.module.load_state_dict(checkpoints.load_weights(Path(weights), plan.description))
        return TrainingResult(best, best_epoch, epochs, time.perf_counter() - started)

    def _train(
        self, process: ProcessRank, plan: TrainingPlan, checkpoint: Path | None
    ) -> tuple[str, float | None, int, int]:
        """Train in one process; return the weights' file and what `TrainingResult` begins with."""
        if self.hardware.accelerator == "cpu":
            hardware.keep_freed_memory()
        module = plan.module
        if self.launcher.shards:  # it is wrapped and sharded: the caller keeps it whole
            module = copy.deepcopy(module)
        monitored = plan.monitor, module.loss_name, plan.monitor_mode
        best = BestCheckpoint(plan.checkpoint_dir, *monitored)
        last = LastCheckpoint(plan.checkpoint_dir)
        epochs = EpochLogger(plan.description, *monitored)
        guard = DivergenceGuard(plan.description, module, self.hardware.precision)
        callbacks: list[Callback] = [last, epochs, guard, *plan.callbacks]
        if plan.keep == "best":
            callbacks.insert(0, best)
        if process.world_size > 1:
            callbacks.append(TerminateOnSignal())
        if plan.keep == "best" and self.patience is not None:
            callbacks.append(PatientStopping(*monitored, self.patience))
        if sys.stderr.isatty():
            callbacks.append(TQDMProgressBar(leave=False))
        # Each process has dropout of its own; the first has that of a process alone.
        pl.seed_everything(plan.seed + process.rank, verbose=False)
        with _irrelevant_warnings_ignored():
            trainer = self._build_trainer(process, plan, module, callbacks)
            self._fit_module(trainer, process, plan, module, checkpoint)
        value = None if best.best_model_score is None else float(best.best_model_score)
        best_epoch = epochs.best_epoch if plan.keep == "best" else trainer.current_epoch
        weights = best.best_model_path or last.last_model_path
        return weights, value, best_epoch, trainer.current_epoch

    def _build_trainer(
        self,
        process: ProcessRank,
        plan: TrainingPlan,
        module: DistillationModule,
        callbacks: list[Callback],
    ) -> pl.Trainer:
        settings: dict[str, Any] = {
            "precision": self.hardware.precision,
            "deterministic": self.hardware.accelerator == "cuda",
        }
        of_processes = self.launcher.trainer_settings(
            process, module.objective.trains_every_parameter, module.student
        )
        of_processes["plugins"] += [checkpoints.CheckpointFiles(plan.checkpoint_dir)]
        return pl.Trainer(
            accelerator=self.hardware.accelerator,
            max_epochs=plan.max_epochs or self.max_epochs,
            callbacks=callbacks,
            logger=(plan.logger if process.rank == 0 else None) or False,
            enable_progress_bar=sys.stderr.isatty(),
            enable_model_summary=False,
            num_sanity_val_steps=0,
            **of_processes,
            **(settings | self.lightning),
        )

    def _fit_module(
        self,
        trainer: pl.Trainer,
        process: ProcessRank,
        plan: TrainingPlan,
        module: DistillationModule,
        checkpoint: Path | None,
    ) -> None:
        # FSDP shards parameters by their shapes, which must be those of the checkpoint.
        ids = None if self.launcher.shards else plan.train.embedding_ids()
        interrupt = signal.getsignal(signal.SIGINT)
        padding = getattr(getattr(module.student, "config", None), "pad_token_id", None)
        if ids is not None and padding is not None and padding >= 0:
            ids = np.union1d(ids, [padding])  # Longformer pads to its window by itself
        try:
            with ExitStack() as changes:
                alone = process.world_size == 1 and self.hardware.accelerator == "cpu"
                if alone and module.optimizer_settings.defers_rows:
                    changes.enter_context(sparse_row_gradients(module.student, ids))
                changes.enter_context(train_active_rows(module.student, ids))
                changes.enter_context(module.head_in_fp32())
                trainer.fit(
                    module,
                    plan.train.loader(plan.batch_size, plan.seed, process),
                    plan.validation.loader(plan.batch_size, None, process),
                    ckpt_path=checkpoint,
                )
        except SystemExit:  # Lightning turns an interrupt into this, and ignores further ones
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, interrupt or signal.SIG_DFL)
            raise KeyboardInterrupt from None


def _instances(option: str, given: Any, wanted: type) -> list[Any]:
    """Return one, several or named objects as a list.

    Raises:
        UserError: if one of them is of another type.
    """
    if given is None:
        return []
    found = list(given.values()) if isinstance(given, Mapping) else given
    found = found if isinstance(found, list) else [found]
    for each in found:
        if not isinstance(each, wanted):
            kind = wanted.__name__
            raise UserError(
                f"{option}={each!r}: it is no {kind} of pytorch_lightning; name its class, such as "
                f"+{option}.mine._target_=pytorch_lightning."
                + ("loggers.CSVLogger" if wanted is Logger else "callbacks.LearningRateMonitor")
            )
    return found


def _check_numbers(max_epochs: int, arguments: Mapping[str, Any]) -> None:
    """Refuse numbers that Lightning would take for something else, or ignore.

    Raises:
        UserError: naming the first one.
    """
    clip = arguments.get("gradient_clip_val")
    if clip is not None and not _is_number(clip, 0):
        raise UserError(
            f"trainer.gradient_clip_val={clip}: it must be above 0, or null for no clipping"
        )
    if not clip and arguments.get("gradient_clip_algorithm") is not None:
        raise UserError(
            "trainer.gradient_clip_algorithm would be ignored without trainer.gradient_clip_val"
        )
    for name, smallest in (
        ("accumulate_grad_batches", 1), ("check_val_every_n_epoch", 1), ("log_every_n_steps", 0),
        ("min_epochs", 1),
    ):  # fmt: skip
        value = arguments.get(name)
        if value is not None and not (_is_number(value, smallest) and isinstance(value, int)):
            raise UserError(
                f"trainer.{name}={value}: it must be a whole number, {smallest} or more"
            )
    if (least := arguments.get("min_epochs")) is not None and least > max_epochs:
        raise UserError(f"trainer.min_epochs={least}: trainer.max_epochs={max_epochs} is smaller")
    for name in ("limit_train_batches", "limit_val_batches", "val_check_interval"):
        value = arguments.get(name)
        if value is None:
            continue
        is_share = isinstance(value, float) and 0 < value <= 1
        if not is_share and not (isinstance(value, int) and _is_number(value, 1)):
            raise UserError(
                f"trainer.{name}={value}: a number of batches, 1 or more, or a share of an epoch "
                "above 0.0 and up to 1.0"
            )
    if arguments.get("check_val_every_n_epoch", 1) is None and not isinstance(
        arguments.get("val_check_interval"), int
    ):
        raise UserError(
            "trainer.check_val_every_n_epoch=null counts batches over all epochs: give "
            "trainer.val_check_interval a number of batches"
        )


def _is_number(value: Any, smallest: float) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and smallest <= value <= LARGEST
    )


def _check_lightning_arguments(arguments: dict[str, Any]) -> None:
    """Refuse what Lightning's Trainer would refuse, and what would be ignored."""
    known = set(inspect.signature(pl.Trainer.__init__).parameters) - {"self"}
    for name in arguments:
        if name in RESERVED_ARGUMENTS:
            raise UserError(f"trainer.{name} is set by distill itself and cannot be given")
        if name in IDLE_ARGUMENTS:
            raise UserError(f"trainer.{name} would be ignored: leave it out")
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f": did you mean trainer.{close[0]}?" if close else ""
            raise UserError(f"trainer.{name} is no argument of Lightning's Trainer{hint}")
    try:
        pl.Trainer(
            accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, **arguments,
        )  # fmt: skip
    except (TypeError, ValueError, MisconfigurationException) as error:
        raise UserError(f"Lightning's Trainer refuses trainer.*: {error}") from error


@contextmanager
def _irrelevant_warnings_ignored() -> Iterator[None]:
    with warnings.catch_warnings():
        for message in IRRELEVANT_WARNINGS:
            warnings.filterwarnings("ignore", message)
        yield
