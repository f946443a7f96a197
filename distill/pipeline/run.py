"""The main flow on one page: teacher, its outputs, student, control, evaluation, report."""

import copy
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import torch
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback
from transformers import PreTrainedModel

from distill.core.cache import begin_run
from distill.core.jagged import ArrayOrJagged
from distill.data.prepare import PreparedData, prepare_data
from distill.distributed.worker_group import WorkerGroup
from distill.evaluation.baselines import measure_baselines
from distill.evaluation.evaluator import (
    EvaluatedModel,
    MeasuredBaselines,
    Measurements,
    SeedLogits,
    compare_models,
    evaluate_models,
    repeated_models,
    temperature_of,
)
from distill.modeling.head import output_layer
from distill.modeling.loading import fit_processor, weight_files
from distill.modeling.pretrained_weights import load_pretrained
from distill.pipeline import report_builder
from distill.pipeline.components import RunComponents
from distill.pipeline.datamodule import DistillationDataModule
from distill.pipeline.run_directory import RunDirectory
from distill.pipeline.trained_model import TrainedModel
from distill.reporting.schema import EACH_CONTROL, Repeat, Report, Role, Training
from distill.student.base import Student, StudentContext
from distill.tasks.base import Task
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
    components = components.for_data(data)
    components.bind_objective(len(data.label_names))
    directory = RunDirectory(Path(config.output_dir))
    finished = directory.begin(config, components.input_hashes(data))
    if finished is not None:
        log.info("this run was finished before: its report is as it was")
        return finished
    begin_run()
    logger = TensorBoardLogger(directory.path)

    components = components.with_min_steps(data, list(config.overrides))
    components.check_training_length(data)
    components.student.check_weights(task.head, data.label_names)
    preparation = TeacherPreparation(
        data, task, components.trainer, components.source.max_length, components.cache_dir, logger
    )
    teacher = prepare_teacher(components.teacher, preparation)
    student = build_student(components, data, teacher)
    datamodule = DistillationDataModule(components, data, teacher, student)
    if data.label_names:
        initialize_head(student, datamodule, task)
    trained, predictions = train_seed(
        components, data, datamodule, teacher, student, directory, logger, callbacks
    )
    others = [
        train_repeat(of_seed, data, datamodule, teacher, directory)
        for of_seed in components.further_seeds(config)
    ]
    evaluated = [
        datamodule.teacher_evaluation,
        *(
            EvaluatedModel(
                role,
                student.name,
                result.model,
                datamodule.test,
                predictions.logits[role],
                weight_files(str(directory.path / role)),
            )
            for role, result in trained.items()
            if role not in EACH_CONTROL
        ),
    ]
    baselines = measure_baselines(
        components.baselines, task, datamodule.baseline_inputs(student), components.cache_dir,
        datamodule.teacher_evaluation,
    )  # fmt: skip
    log.info("measuring %d models on %d examples", len(evaluated), len(datamodule.test))
    clock = time.perf_counter()
    evaluated = fit_temperatures(evaluated, components, datamodule)
    models = evaluate_models(evaluated, task, components.trainer.hardware.device)
    seeds = [TrainedSeed(trained, predictions), *others]
    comparison = compare_models(
        models, evaluated, task, [one.predictions for one in others],
        compared_only(seeds, baselines),
    )  # fmt: skip
    repeats = [seed.measure(evaluated, task) for seed in seeds] if others else []
    seconds = time.perf_counter() - clock
    measurements = Measurements(models, comparison, seconds, repeats, baselines)
    report = report_builder.build_report(
        report_builder.run_info(config, started),
        components, data, teacher, datamodule, trained, measurements,
        [other.trained for other in others],
    )  # fmt: skip
    report_builder.write_report(
        report,
        directory.path,
        report_builder.provenance(components, student),
        report_builder.hyperparameters(components, student, data),
    )
    return report


@dataclass(frozen=True)
class TrainedSeed:
    """Student and control of one of several seeds.

    Attributes:
        trained: by role.
        predictions: on the evaluated split.
    """

    trained: Mapping[str, TrainedModel]
    predictions: SeedLogits

    def measure(self, evaluated: Sequence[EvaluatedModel], task: Task) -> Repeat:
        """Return the report's entry of this seed."""
        models = repeated_models(evaluated, self.predictions.logits, task)
        courses = {
            role: Training.from_dict(asdict(one.result)) for role, one in self.trained.items()
        }
        return Repeat(
            self.predictions.seed,
            {role: replace(model, training=courses[role]) for role, model in models.items()},
        )


def compared_only(
    seeds: Sequence[TrainedSeed], baselines: MeasuredBaselines
) -> dict[str, list[ArrayOrJagged]]:
    """Return logits of what the student is compared with beside teacher and control.

    That is each of two controls, where they were trained, and the linear model.
    """
    logits = {
        role: [seed.predictions.logits[role] for seed in seeds]
        for role in map(str, EACH_CONTROL)
        if role in seeds[0].predictions.logits
    }
    return logits | baselines.of_linear_model


def fit_temperatures(
    evaluated: Sequence[EvaluatedModel],
    components: RunComponents,
    datamodule: DistillationDataModule,
) -> list[EvaluatedModel]:
    """Return the models with the temperature that fits each one's logits of the validation split.

    As they are for a task whose logits are no distribution over classes.
    """
    task, validation = components.task, datamodule.validation
    first = evaluated[0]
    if task.evaluator.categorical_logits(first.logits, first.examples) is None:
        return list(evaluated)
    fitted = []
    for one in evaluated:
        if one.role == Role.TEACHER:
            of_teacher = datamodule.evaluate_teacher("validation")
            temperature = temperature_of(of_teacher.logits, of_teacher.examples, task)
        else:
            logits = predict_logits(
                one.model, validation, components.trainer.hardware,
                reduce_logits=task.evaluator.reduce_logits,
            )  # fmt: skip
            temperature = temperature_of(logits, validation, task)
        fitted.append(replace(one, temperature=temperature))
    return fitted


def build_student(components: RunComponents, data: PreparedData, teacher: Teacher) -> Student:
    """Build the student with the initial weights of its seed."""
    torch.manual_seed(components.seed)
    student = components.student.build(
        StudentContext(teacher.primary, components.task, data, components.cache_dir)
    )
    return replace(student, processor=fit_processor(student.processor, student.model.config))


def initialize_head(student: Student, datamodule: DistillationDataModule, task: Task) -> None:
    """Let a new head start from the distribution of the labels."""
    if student.new_head:
        task.head.initialize(output_layer(student.model), datamodule.labels)


def train_seed(
    components: RunComponents,
    data: PreparedData,
    datamodule: DistillationDataModule,
    teacher: Teacher,
    student: Student,
    directory: RunDirectory,
    logger: TensorBoardLogger,
    callbacks: Sequence[Callback] = (),
) -> tuple[dict[str, TrainedModel], SeedLogits]:
    """Train student and control on one seed, and let them predict the evaluated split."""
    trained = {
        "student": train_student(
            components, datamodule, teacher, student, directory, logger, callbacks
        )
    }
    if components.trains_control:
        trained |= train_controls(components, data, datamodule, student, directory, logger)
    logits = {
        role: predict_logits(
            result.model, datamodule.test, components.trainer.hardware,
            reduce_logits=components.task.evaluator.reduce_logits,
        )
        for role, result in trained.items()
    }  # fmt: skip
    return trained, SeedLogits(components.seed, logits)


def train_repeat(
    components: RunComponents,
    data: PreparedData,
    datamodule: DistillationDataModule,
    teacher: Teacher,
    directory: RunDirectory,
) -> TrainedSeed:
    """Train student and control on a further seed, in a folder below the run's own.

    Initial weights, what the objective learns, order and dropout are those of this seed; teacher,
    its outputs and data are shared.
    """
    log.info("repeats: seed %d", components.seed)
    components.bind_objective(len(data.label_names))
    directory = directory.of_seed(components.seed)
    logger = TensorBoardLogger(directory.path)
    student = build_student(components, data, teacher)
    if data.label_names:
        initialize_head(student, datamodule, components.task)
    trained, predictions = train_seed(
        components, data, datamodule, teacher, student, directory, logger
    )
    directory.drop_checkpoints()
    return TrainedSeed(trained, predictions)


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
        model = load_pretrained(type(student.model), directory.path / "student", new_head=False)
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
    module = DistillationModule(
        model,
        stage.objective,
        components.task,
        components.optimizer_for(stage),
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
        logger=[
            logger.of_training("student" if is_last else stage.name),
            *components.trainer.loggers,
        ],
        max_epochs=stage.epochs,
        description=f"student, {stage.name}" if stage.name else "student",
        callbacks=(*callbacks, *components.trainer.callbacks) if is_last else (),
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
    epochs as all of them, in an order of its own after the first, at the learning rate of the last,
    which trains the head as well.) It does not depend on the student's objective otherwise, so runs
    that differ in that alone share one. It cannot use unlabeled inputs: it repeats the labeled
    examples for as many steps, see :class:`~distill.pipeline.datamodule.DistillationDataModule`.

    Where the student trains for longer than usual, with unlabeled inputs or in several stages, so
    many steps on the labels alone may harm: a second control takes the usual number of epochs, in
    batches of at most the usual size, see :func:`_usual_plan`, and the better of the two on
    validation is the control.

    Returns:
        The control; where there are two, after it each of them by its own role.
    """
    epochs = components.max_epochs
    plan = FineTuningPlan(
        role=Role.CONTROL,
        name=student.name,
        model=copy.deepcopy(student.model),
        processor=student.processor,
        data=data,
        max_length=student.max_length or components.source.max_length,
        train=datamodule.control_train,
        validation=datamodule.validation,
        task=components.task,
        optimizer=components.optimizer_for(components.stages[-1]),
        epochs=epochs,
        batch_size=components.source.batch_size,
        seed=components.seed,
    )
    plans: dict[str, FineTuningPlan] = {Role.CONTROL_EQUAL_STEPS: plan}
    if datamodule.has_unlabeled or epochs > components.trainer.max_epochs:
        plans[Role.CONTROL_USUAL_LENGTH] = usual = replace(
            _usual_plan(plan, components.trainer.max_epochs),
            role=Role.CONTROL_USUAL_LENGTH,
            model=copy.deepcopy(student.model),
            train=datamodule.labeled_train,
        )
    tuned = {
        role: fine_tune(one, components.trainer, components.cache_dir, logger)
        for role, one in plans.items()
    }
    sign = 1 if components.task.evaluator.selection_metric.higher_is_better else -1
    best = {
        role: -math.inf if one.result.best is None else sign * one.result.best
        for role, one in tuned.items()
    }
    counts = max(best, key=best.__getitem__)  # the first of equal ones
    directory.copy_control(tuned[counts].folder)
    trained = {
        role: TrainedModel(
            load_pretrained(type(plan.model), one.folder, new_head=False),
            one.result, one.seconds, one.reused,
        )
        for role, one in tuned.items()
    }  # fmt: skip
    if len(trained) > 1:
        reached = {role: sign * value for role, value in best.items()}
        datamodule.note_controls(reached, counts, components.seed, usual.epochs, usual.batch_size)
        return {Role.CONTROL: trained[counts], **trained}
    return {Role.CONTROL: trained[counts]}


def _usual_plan(plan: FineTuningPlan, epochs: int) -> FineTuningPlan:
    """Return a control's training as of a model that learns from the labeled examples alone.

    A student of few labels and much text may take large batches and few epochs, in which the labels
    alone would give it hardly any steps. The model's class says what is usual. The learning rate
    shrinks with the root of the batch (Malladi et al. 2022, "On the SDEs and Scaling Rules for
    Adaptive Gradient Algorithms").

    Args:
        plan: of the student's batches.
        epochs: the student's epochs, ``trainer.max_epochs``.
    """
    batch_size = min(plan.batch_size, getattr(plan.model, "usual_batch_size", plan.batch_size))
    rate = plan.learning_rate * math.sqrt(batch_size / plan.batch_size)
    return replace(
        plan,
        epochs=max(epochs, getattr(plan.model, "usual_epochs", epochs)),
        batch_size=batch_size,
        optimizer=replace(plan.optimizer, learning_rate=rate),
    )
