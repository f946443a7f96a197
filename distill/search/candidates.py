"""Candidates of a search with a budget: measured before training, then trained in pieces."""

import json
import logging
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Callback

from distill.config.error_messages import user_message
from distill.config.validation import validate_config
from distill.core.errors import UserError
from distill.data.prepare import PreparedData, prepare_data
from distill.evaluation.speed import measure_speed
from distill.pipeline.components import RunComponents
from distill.pipeline.datamodule import DistillationDataModule
from distill.pipeline.run import build_student, run
from distill.reporting.files import write_text
from distill.reporting.schema import Speed
from distill.search.budget import BudgetConfig
from distill.search.halving import Standing
from distill.search.record import damaged
from distill.search.space import SHARED, Compose
from distill.search.trial import StopTrial
from distill.teacher.prepare import Teacher, TeacherPreparation, prepare_teacher
from distill.training.loggers import TensorBoardLogger
from distill.training.module import DistillationModule

log = logging.getLogger(__name__)

FILE_NAME = "candidates.json"
# What it has beside the candidates.
KEPT = ("metric", "higher_is_better", "teacher_quality", "preparation_seconds")
STOPPED, FAILED = "stopped.txt", "error.txt"
# Repetitions of the measurement before training; the final report measures again.
SPEED_ROUNDS = 3


@dataclass
class Candidate:
    """One candidate and what is known of it.

    Attributes:
        name: Its name, and that of its run's folder.
        overrides: Of its run.
        max_epochs: Epochs of its training (of the last stage, where there are several).
        left_out: Why it is not trained; ``None``: it is.
        speedup: The teacher's processor time for one text over its own (a GPU: latency).
        latency_ms: Milliseconds for one text.
        parameters: Number of parameters.
        curve: Metric on validation after each epoch.
        seconds: Wall time of its training so far.
        state: ``waiting``, ``stopped`` (behind others), ``finalist`` or ``failed``.
    """

    name: str
    overrides: list[str]
    max_epochs: int = 0
    left_out: str | None = None
    speedup: float | None = None
    latency_ms: float | None = None
    parameters: int | None = None
    curve: list[float] = field(default_factory=list)
    seconds: float = 0.0
    state: str = "waiting"

    @property
    def seconds_per_epoch(self) -> float | None:
        """Wall time of an epoch, start-up of the pieces included; ``None`` before the first."""
        return self.seconds / len(self.curve) if self.curve else None

    def best(self, higher_is_better: bool, epochs: int | None = None) -> float | None:
        """Return the best value on validation, up to a number of epochs."""
        curve = self.curve[:epochs]
        if not curve:
            return None
        return max(curve) if higher_is_better else min(curve)

    def standing(self, higher_is_better: bool, epochs: int | None = None) -> Standing:
        """Return what candidates are ranked by, up to a number of epochs; of one that has some."""
        best = self.best(higher_is_better, epochs)
        assert best is not None and self.speedup is not None
        return Standing(self.name, best if higher_is_better else -best, 1 / self.speedup)


class PieceOfTraining(Callback):
    """Records a candidate's curve, and ends its training after a number of epochs.

    Training is interrupted at the start of the next epoch, when the last one's checkpoint is
    written, or at the end of the training; so that no test split is evaluated.

    Args:
        candidate: Its curve is replaced from the first epoch that is trained here.
        epochs: Number of epochs of the whole training after which it is interrupted.
    """

    def __init__(self, candidate: Candidate, epochs: int) -> None:
        self._candidate, self._epochs = candidate, epochs

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Stop where the piece is done."""
        if trainer.current_epoch >= self._epochs:
            raise StopTrial(f"after epoch {trainer.current_epoch} of {trainer.max_epochs}")

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Record the metric on validation."""
        assert isinstance(module, DistillationModule)
        value = trainer.callback_metrics.get(f"validation/{module.task.evaluator.metric_name}")
        if value is None:
            raise UserError("a search with a budget needs a validation in every epoch")
        curve = self._candidate.curve
        curve[trainer.current_epoch :] = [float(value)]

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Stop before anything is evaluated on the test split."""
        raise StopTrial(f"after epoch {trainer.current_epoch} of {trainer.max_epochs}")


class Candidates:
    """All candidates of a search, kept in its folder after every change.

    Args:
        folder: The search's folder.
        settings: Goals and candidates.
        compose: Function from overrides to the config of a run.
    """

    def __init__(self, folder: Path, settings: BudgetConfig, compose: Compose):
        self.folder, self._settings, self._compose = folder, settings, compose
        self.teacher_quality: float | None = None
        self.metric, self.higher_is_better = "", True
        self.preparation_seconds = 0.0
        self.all = [Candidate(name, list(o)) for name, o in settings.candidates.items()]
        file = folder / FILE_NAME
        if file.is_file():
            try:
                kept = json.loads(file.read_text(encoding="utf-8"))
                self.all = [Candidate(**candidate) for candidate in kept.pop("candidates")]
                values = {name: kept[name] for name in KEPT}
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise damaged(file) from error
            for name, value in values.items():
                setattr(self, name, value)

    @property
    def measured(self) -> bool:
        """Whether every candidate was measured or left out."""
        return self.teacher_quality is not None

    @property
    def eligible(self) -> list[Candidate]:
        """Those that fit the task and the limits, and did not fail."""
        return [one for one in self.all if one.left_out is None and one.state != "failed"]

    @property
    def trained(self) -> list[Candidate]:
        """Eligible candidates that have had an epoch."""
        return [one for one in self.eligible if one.curve]

    def __getitem__(self, name: str) -> Candidate:
        return next(candidate for candidate in self.all if candidate.name == name)

    @property
    def enough(self) -> float | None:
        """Quality from which on a candidate is good enough, as its :class:`Standing` has it."""
        share, teacher = self._settings.at_least, self.teacher_quality
        if share is None or teacher is None:
            return None
        return share * teacher if self.higher_is_better else -teacher / share

    @property
    def seconds(self) -> float:
        """Wall time so far, over all calls."""
        return self.preparation_seconds + sum(candidate.seconds for candidate in self.all)

    def save(self) -> None:
        """Write candidates.json."""
        content = {
            "metric": self.metric,
            "higher_is_better": self.higher_is_better,
            "teacher_quality": self.teacher_quality,
            "preparation_seconds": self.preparation_seconds,
            "candidates": [asdict(candidate) for candidate in self.all],
        }
        write_text(self.folder / FILE_NAME, json.dumps(content, indent=2) + "\n")

    def measure(self, base: DictConfig) -> None:
        """Prepare data, teacher and its outputs, and measure every candidate's speed.

        Candidates that do not fit task, teacher or limits are left out, with the reason.

        Raises:
            UserError: No candidate is left.
        """
        started = time.monotonic()
        components = RunComponents.from_config(base)
        task = components.task
        data = prepare_data(components.source, task.schema, components.cache_dir)
        components.bind_objective(len(data.label_names))
        logger = TensorBoardLogger(self.folder)
        teacher = prepare_teacher(
            components.teacher,
            TeacherPreparation(
                data, task, components.trainer, components.source.max_length,
                components.cache_dir, logger,
            ),
        )  # fmt: skip
        metric = task.evaluator.selection_metric
        self.metric, self.higher_is_better = metric.name, metric.higher_is_better
        models: dict[str, Any] = {}
        examples: dict[str, Any] = {}
        for candidate in self.all:
            try:
                model, module = self._build(candidate, data, teacher, base)
            except Exception as error:
                message = user_message(error)
                if message is None:
                    raise
                candidate.left_out = message.splitlines()[0]
                log.info("%s: left out: %s", candidate.name, candidate.left_out)
                continue
            if not examples:
                of_teacher = module.evaluate_teacher("validation")
                inputs = task.evaluator.metric_inputs(of_teacher.logits, of_teacher.examples)
                self.teacher_quality = float(metric.function(*inputs))
                models["teacher"], examples["teacher"] = teacher.model, of_teacher.examples
            models[candidate.name], examples[candidate.name] = model, module.validation
        if not examples:
            reasons = "; ".join(f"{one.name}: {one.left_out}" for one in self.all)
            raise UserError(f"no candidate fits this task and teacher: {reasons}")
        log.info("measuring the speed of %d candidates", len(models) - 1)
        device = components.trainer.hardware.device
        speeds = measure_speed(models, examples, device, rounds=SPEED_ROUNDS)
        for candidate in self.all:
            if candidate.left_out is not None:
                continue
            own, teachers = speeds[candidate.name], speeds["teacher"]
            candidate.speedup = _milliseconds(teachers) / _milliseconds(own)
            assert own.latency_ms is not None
            candidate.latency_ms = own.latency_ms.p50
            assert candidate.latency_ms is not None
            candidate.parameters = sum(p.numel() for p in models[candidate.name].parameters())
            candidate.left_out = self._settings.violates(candidate.speedup, candidate.latency_ms)
            log.info(
                "%s: %.3g times faster than the teacher%s", candidate.name, candidate.speedup,
                f", left out: {candidate.left_out}" if candidate.left_out else "",
            )  # fmt: skip
        self.preparation_seconds += time.monotonic() - started
        self.save()
        if not self.eligible:
            fastest = max(self.all, key=lambda one: one.speedup or 0)
            raise UserError(
                f"no candidate is within the limits; the fastest, {fastest.name}, is "
                f"{fastest.speedup or 0:.3g} times faster than the teacher and takes "
                f"{fastest.latency_ms or 0:.3g} ms"
            )

    def train(self, candidate: Candidate, epochs: int) -> None:
        """Train a candidate until it has had so many epochs; a failure is recorded."""
        if len(candidate.curve) >= epochs or candidate.state == "failed":
            return
        started = time.monotonic()
        try:
            self.run(candidate, [PieceOfTraining(candidate, epochs)])
        except StopTrial as reason:
            self._note(candidate, STOPPED, f"compared {reason}")
        except Exception as error:
            candidate.state = "failed"
            message = user_message(error) or f"{error!r}\n\n{traceback.format_exc()}"
            self._note(candidate, FAILED, message)
            log.info("%s: failed: %s", candidate.name, message.splitlines()[0])
        finally:  # also when interrupted
            candidate.seconds += time.monotonic() - started
            self.save()

    def run(self, candidate: Candidate, callbacks: Sequence[Callback] = ()) -> None:
        """Run a candidate's command, or continue it."""
        config = self._config(candidate)
        config.output_dir = str(self.folder / candidate.name)
        run(config, callbacks)

    def finish(self, candidate: Candidate) -> None:
        """Train a candidate to its end, and evaluate it on the test split."""
        started = time.monotonic()
        try:
            self.run(candidate)
            (self.folder / candidate.name / STOPPED).unlink(missing_ok=True)
        finally:
            candidate.seconds += time.monotonic() - started
            self.save()

    def _build(
        self, candidate: Candidate, data: PreparedData, teacher: Teacher, base: DictConfig
    ) -> tuple[Any, DistillationDataModule]:
        """Return a candidate's model before training, and its data."""
        config = self._config(candidate)
        for group in ("teacher", *SHARED):
            if group != "output_dir" and _comparable(config, group) != _comparable(base, group):
                raise UserError(f"a candidate must not change {group}")
        components = RunComponents.from_config(config)
        components.bind_objective(len(data.label_names))
        student = build_student(components, data, teacher)
        candidate.max_epochs = components.stages[-1].epochs or components.trainer.max_epochs
        return student.model, DistillationDataModule(components, data, teacher, student)

    def _config(self, candidate: Candidate) -> DictConfig:
        config = self._compose(*candidate.overrides).copy()
        validate_config(config)
        return config

    def _note(self, candidate: Candidate, name: str, text: str) -> None:
        folder = self.folder / candidate.name
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(f"{text}\n", encoding="utf-8")


def _milliseconds(speed: Speed) -> float:
    """Return processor time of one text, or latency where a GPU does the work."""
    measured = speed.cpu_ms or speed.latency_ms
    assert measured is not None and measured.p50 is not None
    return measured.p50


def _comparable(config: DictConfig, group: str) -> Any:
    """Return a group as far as it must be the same for all candidates."""
    node = OmegaConf.to_container(config, resolve=True)
    assert isinstance(node, dict)
    value = node[group]
    if group == "data":  # a recipe may bring the batch size that suits its student
        value = {name: option for name, option in value.items() if name != "batch_size"}
    return value
