"""The main flow on one page: teacher, its outputs, student, control, evaluation, report."""

import copy
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback
from transformers import PreTrainedModel

from distill.data.prepare import PreparedData, prepare_data
from distill.distributed.worker_group import WorkerGroup
from distill.evaluation.baselines import compare_with_baselines, measure_baselines
from distill.evaluation.evaluator import (
    EvaluatedModel,
    Measurements,
    compare_models,
    evaluate_models,
)
from distill.pipeline import report_builder
from distill.pipeline.components import RunComponents
from distill.pipeline.datamodule import DistillationDataModule
from distill.pipeline.run_directory import RunDirectory
from distill.pipeline.trained_model import TrainedModel
from distill.reporting.schema import OTHER_CONTROLS, Report, Role
from distill.student.base import Student, StudentContext
from distill.teacher.prepare import Teacher, TeacherPreparation, prepare_teacher
from distill.training.fine_tuning import FineTuningPlan, fine_tune
from distill.training.inference import predict_logits
from distill.training.loggers import TensorBoardLogger
from distill.training.module import DistillationModule
from distill.training.trainer import TrainingPlan, TrainingResult

log = logging.getLogger(__name__)


def run(
    config: DictConfig,
    callbacks: Sequence[Callback] = (),
    workers: WorkerGroup | None = None,
) -> Report:
    """Run one distillation and write everything into ``config.output_dir``.

    Args:
        config: composed and validated.
        callbacks: added to the student's training; an exception that they raise ends the run.
        workers: the other processes that torchrun or srun has started.

    Returns:
        The report, as it is written.

    Raises:
        UserError: for mistakes of the user, before any training.
    """
    started = datetime.now(UTC)
    components = RunComponents.from_config(config)
    with components.trainer.launcher.worker_group(workers):
        return _run(config, components, started, callbacks)


def _run(
    config: DictConfig,
    components: RunComponents,
    started: datetime,
    callbacks: Sequence[Callback],
) -> Report:
    """The main flow, in one process."""
    task = components.task
    data = prepare_data(components.source, task.schema, components.cache_dir)
    log.info(
        "data: %s, %s, %s", data.name, data.sizes, task.schema.describe_outputs(data.label_names)
    )
    for note in data.notes:
        log.info("data: %s", note)
    components.bind_objective(len(data.label_names))
    directory = RunDirectory(Path(config.output_dir))
    directory.write_config(config)
    logger = TensorBoardLogger(directory.path)

    preparation = TeacherPreparation(
        data, task, components.trainer, components.source.max_length, components.cache_dir, logger
    )
    teacher = prepare_teacher(components.teacher, preparation)
    torch.manual_seed(components.seed)
    student = components.student.build(
        StudentContext(teacher.primary, task, data, components.cache_dir)
    )
    datamodule = DistillationDataModule(components, data, teacher, student)

    trained = {
        "student": train_student(
            components, datamodule, teacher, student, directory, logger, callbacks
        )
    }
    if components.trains_control:
        trained |= train_controls(components, data, datamodule, student, directory, logger)

    evaluated = [datamodule.teacher_evaluation]
    for role, result in trained.items():
        logits = predict_logits(
            result.model, datamodule.test, components.trainer.hardware,
            reduce_logits=task.evaluator.reduce_logits,
        )  # fmt: skip
        evaluated.append(EvaluatedModel(role, student.name, result.model, datamodule.test, logits))
    # A control that does not count is only compared: it has the size and speed of the other.
    others = [one for one in evaluated if one.role in OTHER_CONTROLS]
    evaluated = [one for one in evaluated if one not in others]
    log.info("measuring %d models on %d examples", len(evaluated), len(datamodule.test))
    clock = time.perf_counter()
    models = evaluate_models(evaluated, task, components.trainer.hardware.device)
    comparison = compare_models(models, evaluated, task, others)
    seconds = time.perf_counter() - clock
    baselines = measure_baselines(
        components.baselines, task, datamodule.baseline_inputs(student), components.cache_dir,
        datamodule.teacher_evaluation,
    )  # fmt: skip
    comparison = compare_with_baselines(comparison, evaluated[1], baselines, task)
    measurements = Measurements(models, comparison, seconds, baselines)
    report = report_builder.build_report(
        report_builder.run_info(config, started),
        components, data, teacher, datamodule, trained, measurements,
    )  # fmt: skip
    report_builder.write_report(
        report,
        directory.path,
        report_builder.provenance(components, student),
        report_builder.hyperparameters(components, student, data),
    )
    return report


def train_student(
    components: RunComponents,
    datamodule: DistillationDataModule,
    teacher: Teacher,
    student: Student,
    directory: RunDirectory,
    logger: TensorBoardLogger,
    callbacks: Sequence[Callback] = (),
) -> TrainedModel:
    """Train the student, stage by stage, and save it; or load it if this run has finished it."""
    result = directory.finished("student")
    if result is not None:
        log.info("student: trained before the run was interrupted")
        model = type(student.model).from_pretrained(directory.path / "student", dtype=torch.float32)
        return TrainedModel(model, result, result.seconds, False)
    model = copy.deepcopy(student.model)
    *earlier, last = [
        _train_stage(number, components, datamodule, teacher, model, directory, logger, callbacks)
        for number in range(len(components.stages))
    ]
    seconds = last.seconds + sum(result.seconds for result in earlier)
    epochs = last.epochs + sum(result.epochs for result in earlier)
    result = replace(last, seconds=seconds, epochs=epochs)
    directory.save_student(model, student.processor, result)
    return TrainedModel(model, result, result.seconds, False)


def _train_stage(
    number: int,
    components: RunComponents,
    datamodule: DistillationDataModule,
    teacher: Teacher,
    model: PreTrainedModel,
    directory: RunDirectory,
    logger: TensorBoardLogger,
    callbacks: Sequence[Callback],
) -> TrainingResult:
    """Train one stage, from the weights that the model has; its best weights are left in it."""
    stage, is_last = components.stages[number], number == len(components.stages) - 1
    if not is_last and (result := directory.finished_stage(stage.name, model)) is not None:
        log.info("%s: done before the run was interrupted", stage.name)
        return result
    learning_rate = stage.learning_rate or components.optimizer.learning_rate
    module = DistillationModule(
        model,
        stage.objective,
        components.task,
        replace(components.optimizer, learning_rate=learning_rate),
        teacher=teacher.model if components.runs_teacher_live(stage.objective) else None,
        prefix="" if is_last else f"{stage.name}/",
        read_logits=teacher.outputs_from_logits,
    )
    plan = TrainingPlan(
        module=module,
        train=datamodule.train_dataset(stage.objective),
        validation=datamodule.validation,
        batch_size=components.source.batch_size,
        seed=components.seed + number,
        checkpoint_dir=directory.checkpoints if is_last else directory.checkpoints / stage.name,
        logger=logger,
        max_epochs=stage.epochs,
        description=f"student, {stage.name}" if stage.name else "student",
        callbacks=callbacks if is_last else (),
        keep="best" if stage.objective.trains_head else "last",
    )
    result = components.trainer.fit(plan)
    if not is_last:
        directory.save_stage(stage.name, model, result)
    return result


def train_controls(
    components: RunComponents,
    data: PreparedData,
    datamodule: DistillationDataModule,
    student: Student,
    directory: RunDirectory,
    logger: TensorBoardLogger,
) -> dict[str, TrainedModel]:
    """Train the same student without the teacher, and save it beside the student.

    It starts from the same weights and sees the same batches in the same order with the same
    dropout; only the objective differs. (Beside a recipe of several stages it trains for as many
    epochs as all of them, in an order of its own after the first.) It does not depend on the
    student's objective, so runs that differ in that alone share one. It cannot use unlabeled
    inputs: it repeats the labeled examples for as many steps, see
    :class:`~distill.pipeline.datamodule.DistillationDataModule`.

    Where the student trains for longer than usual, with unlabeled inputs or in several stages, so
    many steps on the labels alone may harm: a second control takes the usual number of epochs, and
    the better of the two on validation is the control.

    Returns:
        The control, and after it the one that does not count, if there are two.
    """
    epochs = components.max_epochs
    plan = FineTuningPlan(
        role=Role.CONTROL,
        name=student.name,
        model=copy.deepcopy(student.model),
        processor=student.processor,
        data=data,
        max_length=components.source.max_length,
        train=datamodule.control_train,
        validation=datamodule.validation,
        task=components.task,
        optimizer=components.optimizer,
        epochs=epochs,
        batch_size=components.source.batch_size,
        seed=components.seed,
    )
    plans: dict[str, FineTuningPlan] = {Role.CONTROL_EQUAL_STEPS: plan}
    if datamodule.has_unlabeled or epochs > components.trainer.max_epochs:
        plans[Role.CONTROL_USUAL_LENGTH] = replace(
            plan,
            role=Role.CONTROL_USUAL_LENGTH,
            model=copy.deepcopy(student.model),
            train=datamodule.labeled_train,
            epochs=components.trainer.max_epochs,
        )
    tuned = {
        role: fine_tune(one, components.trainer, components.cache_dir, logger)
        for role, one in plans.items()
    }
    counts = max(tuned, key=lambda role: tuned[role].result.best)  # the first of equal ones
    if len(tuned) > 1:
        datamodule.note_controls({role: one.result for role, one in tuned.items()}, counts)
    directory.copy_control(tuned[counts].folder)
    trained = {
        role: TrainedModel(
            type(plan.model).from_pretrained(one.folder, dtype=torch.float32),
            one.result, one.seconds, one.reused,
        )
        for role, one in tuned.items()
    }  # fmt: skip
    return {Role.CONTROL: trained.pop(counts)} | trained
