"""Prepare the teacher: load it, align its outputs, fine-tune it once where it needs to be."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from distill.core.errors import UserError
from distill.data.dataset import DistillationDataset
from distill.data.prepare import PreparedData
from distill.modeling import loading
from distill.modeling.ensemble import Ensemble
from distill.modeling.families import output_names
from distill.modeling.head import Head, output_layer, reorder_head, reset_head
from distill.modeling.outputs import ModelOutputs
from distill.tasks.base import Task
from distill.teacher.config import TeacherConfig
from distill.training.fine_tuning import FineTunedModel, FineTuningPlan, fine_tune
from distill.training.loggers import TensorBoardLogger
from distill.training.optimizer import AdamW
from distill.training.trainer import TrainerFactory

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Teacher:
    """A teacher whose head is trained for the task.

    Attributes:
        name: name in reports.
        model: in evaluation mode, its outputs in the order of the data's label names.
        processor: the model's processor.
        hash: hash of its weights.
        seconds: time of fine-tuning in this run; 0 if it was not needed or reused.
        reused: whether it was used as it is or taken from the cache.
        members: the teachers of an ensemble by name.
        weight_files: files of its saved weights, of an ensemble those of all members.
        output_order: index of each label in the head that it came with; ``None`` if its head was
            trained on these labels here, or it is an ensemble.
    """

    name: str
    model: PreTrainedModel | Ensemble
    processor: Any
    hash: str
    seconds: float
    reused: bool
    members: Mapping[str, "Teacher"] = field(default_factory=dict)
    weight_files: Sequence[Path] = ()
    output_order: tuple[int, ...] | None = None

    @property
    def pretrained_model(self) -> PreTrainedModel:
        """The model of a single teacher, whose layers and embeddings a student may start from."""
        assert not isinstance(self.model, Ensemble), "students start from the primary teacher"
        return self.model

    @property
    def outputs_from_logits(self) -> Callable[[Tensor], ModelOutputs]:
        """Function that turns cached logits of a batch into outputs; an ensemble combines them."""
        if isinstance(self.model, Ensemble):
            return self.model.combine_cached_logits
        return ModelOutputs

    @property
    def primary(self) -> "Teacher":
        """The teacher that a student may start from: itself, or the first of an ensemble."""
        return next(iter(self.members.values()), self)


@dataclass(frozen=True)
class TeacherPreparation:
    """Everything that preparing a teacher needs beside its configuration.

    Attributes:
        data: prepared data that the teacher must fit.
        task: the task.
        trainer: trains a teacher whose head is not trained for the task.
        max_length: maximum number of tokens of an example.
        cache_dir: where fine-tuned teachers are kept.
        logger: logger of the run.
    """

    data: PreparedData
    task: Task
    trainer: TrainerFactory
    max_length: int
    cache_dir: Path
    logger: TensorBoardLogger


class CombinedTeacherConfig(Protocol):
    """Configuration of several teachers that are combined to one."""

    @property
    def members(self) -> Mapping[str, TeacherConfig]:
        """Configuration of each member by name."""

    def build(self, members: Mapping[str, Teacher]) -> Teacher:
        """Return one teacher that combines prepared members."""


def prepare_teacher(
    config: TeacherConfig | CombinedTeacherConfig, preparation: TeacherPreparation
) -> Teacher:
    """Prepare a teacher, or every member of an ensemble; see :func:`prepare_single_teacher`."""
    if isinstance(config, TeacherConfig):
        return prepare_single_teacher(config, preparation)
    for member in config.members.values():  # before the first of them is fine-tuned
        _load_teacher(member, preparation)
    members = {
        name: prepare_single_teacher(member, preparation) for name, member in config.members.items()
    }
    return config.build(members)


def prepare_single_teacher(config: TeacherConfig, preparation: TeacherPreparation) -> Teacher:
    """Load the teacher; fine-tune it if its head is not trained for the task's outputs.

    A fine-tuned teacher is kept in ``cache_dir`` and reused, see :func:`fine_tune`.

    Raises:
        UserError: if there is no such model, or it needs fine-tuning and must not be fine-tuned.
    """
    task, data = preparation.task, preparation.data
    path, model, processor, order = _load_teacher(config, preparation)
    if order is not None:
        if order != list(range(len(order))):
            reorder_head(model, order)
            log.info("teacher: its classes are put into the data's order by name")
        log.info("teacher: %s has a head trained for these classes and is used as it is", path)
        return Teacher(
            config.name, model.eval(), processor, loading.weights_hash(model), 0.0, True,
            weight_files=loading.weight_files(path), output_order=tuple(order),
        )  # fmt: skip
    if config.fine_tune is False:
        raise UserError(
            f"teacher.path={config.path} has no head trained for "
            f"{', '.join(data.label_names) or task.schema.describe_outputs([])} and "
            "teacher.fine_tune=false forbids to train one"
        )
    tuned = _fine_tune_teacher(config, model, processor, preparation)
    # Loaded in either case, so that this run and those that reuse it hold the very same teacher.
    model = load_model(task.head, str(tuned.folder), data.label_names, keep_head=True).eval()
    return Teacher(
        config.name, model, processor, loading.weights_hash(model), tuned.seconds, tuned.reused,
        weight_files=loading.weight_files(str(tuned.folder)),
    )  # fmt: skip


def _load_teacher(
    config: TeacherConfig, preparation: TeacherPreparation
) -> tuple[str, PreTrainedModel, Any, list[int] | None]:
    """Return a teacher's path, model and processor, and the order of its outputs if trained."""
    task, data = preparation.task, preparation.data
    path = loading.resolve_model_path(config.path, "teacher.path")
    description = f"teacher.path={config.path}"
    model_config = loading.load_config(path, description)
    processor = task.preprocessor.load_processor(path, description)
    loading.check_max_length(model_config, preparation.max_length)
    order = _trained_output_order(model_config, config, data.label_names, task)
    # What the checkpoint lacks starts from random weights, drawn from the teacher's own seed.
    torch.manual_seed(config.seed)
    model = load_model(task.head, path, data.label_names, keep_head=order is not None)
    return path, model, processor, order


def _fine_tune_teacher(
    config: TeacherConfig, model: PreTrainedModel, processor: Any, preparation: TeacherPreparation
) -> FineTunedModel:
    task, data = preparation.task, preparation.data
    if not task.head.reuses_head:
        reset_head(model)
    encoder = task.encoder(data, preparation.cache_dir)
    encoded = {
        split: encoder.encode(split, processor, preparation.max_length)
        for split in ("train", "validation")
    }
    collate = encoder.collator(
        processor, task.preprocessor.batch_transform(processor, encoded["train"])
    )
    datasets = {
        split: DistillationDataset(rows, collate, source=data.splits[split])
        for split, rows in encoded.items()
    }
    if not task.head.reuses_head:
        task.head.initialize(output_layer(model), datasets["train"].label_values)
    plan = FineTuningPlan(
        role="teacher",
        name=config.name,
        model=model,
        processor=processor,
        data=data,
        max_length=preparation.max_length,
        train=datasets["train"],
        validation=datasets["validation"],
        task=task,
        optimizer=AdamW(learning_rate=config.learning_rate),
        epochs=config.epochs,
        batch_size=config.batch_size,
        seed=config.seed,
    )
    return fine_tune(plan, preparation.trainer, preparation.cache_dir, preparation.logger)


def _trained_output_order(
    model_config: PreTrainedConfig, config: TeacherConfig, names: list[str], task: Task
) -> list[int] | None:
    """Return the index of each label in the teacher's head; ``None`` if it must be trained."""
    head = task.head
    architecture = (model_config.architectures or [""])[0]
    if config.fine_tune is True or not architecture.endswith(head.architectures):
        if config.labels is not None:
            raise UserError("teacher.labels names the classes of a head that will not be used")
        return None
    checkpoint_names = output_names(model_config)
    model_names = dict(enumerate(map(str, config.labels))) if config.labels else checkpoint_names
    if config.labels and len(config.labels) != model_config.num_labels:
        raise UserError(
            f"teacher.labels names {len(config.labels)} classes, its head has "
            f"{model_config.num_labels}"
        )
    problem_type = getattr(model_config, "problem_type", None)
    if problem_type not in head.accepted_problem_types and not (
        config.labels and problem_type is None
    ):
        if config.labels:
            raise UserError(
                f"teacher.labels: the teacher's head is trained for {problem_type}, not for "
                f"task={task.name}"
            )
        log.warning(
            "teacher: its head is trained for %s, the task is %s: a new head is fine-tuned%s",
            problem_type or "nothing that its config tells (problem_type)", task.name,
            "" if problem_type else " (if it was trained for this, name its outputs with "
            f"teacher.labels=[{', '.join(names)}])",
        )  # fmt: skip
        return None
    order = head.output_order(model_names, names)
    if order is None:
        if config.labels:
            raise UserError(
                f"teacher.labels={list(config.labels)} are not the data's classes {names}"
            )
        log.warning(
            "teacher: its head knows %s, the data have %s: a new head is fine-tuned "
            "(if they mean the same, name its classes with teacher.labels=[...])",
            ", ".join(checkpoint_names.values()), ", ".join(names),
        )  # fmt: skip
    return order


def load_model(head: Head, path: str, names: list[str], keep_head: bool) -> PreTrainedModel:
    """Load a model with a head for these outputs, trained or new.

    Raises:
        UserError: if it cannot be loaded.
    """
    return head.load_trained(path, names) if keep_head else head.load(path, names)
