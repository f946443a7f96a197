"""The main flow, on one page: teacher, its outputs, student, control, measures, report."""

import copy
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import torch
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback
from transformers import PreTrainedModel

from distill.data.prepare import PreparedData, prepare_data
from distill.distributed.worker_group import WorkerGroup
from distill.evaluation.evaluator import EvaluatedModel, compare_models, evaluate_models
from distill.modeling.features import ModelOutputs
from distill.pipeline import report_builder
from distill.pipeline.components import RunComponents
from distill.pipeline.datamodule import DistillationDataModule
from distill.pipeline.run_directory import RunDirectory
from distill.reporting import tensorboard
from distill.student.base import Student
from distill.teacher.prepare import Teacher, prepare_teacher
from distill.training.fine_tuning import FineTuningPlan, fine_tune
from distill.training.inference import predict_logits
from distill.training.module import DistillationModule
from distill.training.trainer import TrainingPlan, TrainingResult

log = logging.getLogger(__name__)


def run(
    config: DictConfig,
    callbacks: Sequence[Callback] = (),
    workers: WorkerGroup | None = None,
) -> str:
    """Distil once, and write everything into ``config.output_dir``.

    Args:
        config: composed and checked.
        callbacks: look on while the student is trained; what they raise ends the run.
        workers: the other processes that torchrun or srun has started.

    Returns:
        The report's short form, for a terminal.

    Raises:
        UserError: for what the user can mend, before any training.
    """
    started = datetime.now(UTC)
    job = RunComponents.from_config(config)
    with job.fitter.launcher.worker_group(workers):
        return _run(config, job, started, callbacks)


def _run(
    config: DictConfig, job: RunComponents, started: datetime, callbacks: Sequence[Callback]
) -> str:
    """The main flow, in one process."""
    data = prepare_data(job.source, job.task, job.cache_dir)
    log.info("data: %s, %s, %s", data.name, data.sizes, job.task.outputs(data.label_names))
    for note in data.notes:
        log.info("data: %s", note)
    job.bind(len(data.label_names))
    folder = RunDirectory(Path(config.output_dir))
    folder.write_config(config)

    logger = tensorboard.TensorBoardLogger(folder.path)

    teacher = prepare_teacher(
        job.teacher, data, job.task, job.fitter, job.source.max_length, job.cache_dir, logger
    )
    torch.manual_seed(job.seed)
    student = job.student.build(teacher.primary, job.task, data.label_names, job.cache_dir, data)
    pairing = DistillationDataModule(job, data, teacher, student)

    trained = {"student": train_student(job, pairing, teacher, student, folder, logger, callbacks)}
    if job.has_control:
        trained["control"] = train_control(job, data, pairing, student, folder, logger)
    measured = [pairing.teacher]
    for role, one in trained.items():
        logits = predict_logits(
            one.model, pairing.test, job.fitter.hardware, reduce_logits=job.task.condense
        )
        measured.append(EvaluatedModel(role, student.name, one.model, pairing.test, logits))

    log.info("measuring %d models on %d examples", len(measured), len(pairing.test))
    clock = time.perf_counter()
    models = evaluate_models(measured, job.task, job.fitter.hardware.device)
    comparison = compare_models(models, measured, job.task)
    report = report_builder.build_report(
        config, job, data, teacher, pairing, models, comparison, trained, started,
        measure_seconds=time.perf_counter() - clock,
    )  # fmt: skip
    return report_builder.write_report(
        report, folder.path, student, report_builder.hyperparameters(config, job, student, data)
    )


@dataclass(frozen=True)
class TrainedModel:
    """A model with the weights that were best on validation.

    Attributes:
        model: in memory; the same is saved in the run's folder.
        fitted: what its training came to.
        seconds: what it took in this run; 0 where it was reused.
        reused: whether it was trained before.
    """

    model: PreTrainedModel
    fitted: TrainingResult
    seconds: float
    reused: bool


def train_student(
    job: RunComponents,
    pairing: DistillationDataModule,
    teacher: Teacher,
    student: Student,
    folder: RunDirectory,
    logger: tensorboard.TensorBoardLogger,
    callbacks: Sequence[Callback] = (),
) -> TrainedModel:
    """Train the student, stage by stage, and save it; or take it, if this run has done it."""
    fitted = folder.finished("student")
    if fitted is not None:
        log.info("student: trained before the run was interrupted")
        model = type(student.model).from_pretrained(folder.path / "student", dtype=torch.float32)
        return TrainedModel(model, fitted, fitted.seconds, False)
    model = copy.deepcopy(student.model)
    *before, last = [
        _train_stage(number, job, pairing, teacher, model, folder, logger, callbacks)
        for number in range(len(job.stages))
    ]
    seconds = last.seconds + sum(fitted.seconds for fitted in before)
    epochs = last.epochs + sum(fitted.epochs for fitted in before)
    fitted = replace(last, seconds=seconds, epochs=epochs)
    folder.save_student(model, student.tokenizer, fitted)
    return TrainedModel(model, fitted, fitted.seconds, False)


def _train_stage(
    number: int,
    job: RunComponents,
    pairing: DistillationDataModule,
    teacher: Teacher,
    model: PreTrainedModel,
    folder: RunDirectory,
    logger: tensorboard.TensorBoardLogger,
    callbacks: Sequence[Callback],
) -> TrainingResult:
    """One stage, from the weights that the model has to those it is left with."""
    stage, is_last = job.stages[number], number == len(job.stages) - 1
    if not is_last and (fitted := folder.finished_stage(stage.name, model)) is not None:
        log.info("%s: done before the run was interrupted", stage.name)
        return fitted
    module = DistillationModule(
        model,
        stage.objective,
        job.task,
        replace(job.optimizer, learning_rate=stage.learning_rate or job.optimizer.learning_rate),
        teacher=teacher.model if job.live(stage.objective) else None,
        prefix="" if is_last else f"{stage.name}/",
        read_logits=teacher.model.read if teacher.members else ModelOutputs,
    )
    fitted = job.fitter.fit(
        TrainingPlan(
            module=module,
            train=pairing.train(stage.objective),
            validation=pairing.validation,
            batch_size=job.source.batch_size,
            seed=job.seed + number,
            checkpoint_dir=folder.checkpoints if is_last else folder.checkpoints / stage.name,
            logger=logger,
            max_epochs=stage.epochs,
            description=f"student, {stage.name}" if stage.name else "student",
            callbacks=callbacks if is_last else (),
            keep="best" if stage.objective.trains_head else "last",
        )
    )
    if not is_last:
        folder.save_stage(stage.name, model, fitted)
    return fitted


def train_control(
    job: RunComponents,
    data: PreparedData,
    pairing: DistillationDataModule,
    student: Student,
    folder: RunDirectory,
    logger: tensorboard.TensorBoardLogger,
) -> TrainedModel:
    """The same student without the teacher, saved beside it.

    It starts from the same weights and sees the same batches in the same order with the same
    dropout; only the objective differs. (Beside a recipe of several stages it trains for as many
    epochs as all of them, in an order of its own after the first.) It does not depend on the
    student's objective, so runs that differ in that alone share one. Texts without labels it cannot
    use: it goes over the labelled examples for as many steps, see :class:`DistillationDataModule`.
    """
    model = copy.deepcopy(student.model)
    plan = FineTuningPlan(
        role="control",
        name=student.name,
        model=model,
        processor=student.tokenizer,
        data=data,
        max_length=job.source.max_length,
        train=pairing.train_alone,
        validation=pairing.validation,
        task=job.task,
        optimizer=job.optimizer,
        epochs=job.epochs,
        batch_size=job.source.batch_size,
        seed=job.seed,
    )
    tuned = fine_tune(plan, job.fitter, job.cache_dir, logger)
    folder.copy_control(tuned.folder)
    model = type(model).from_pretrained(tuned.folder, dtype=torch.float32)
    return TrainedModel(model, tuned.result, tuned.seconds, tuned.reused)
