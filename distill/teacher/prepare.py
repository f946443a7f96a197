"""Make the teacher ready: load it, align its labels, fine-tune it where it needs to be, once."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from distill.core.errors import UserError
from distill.data.collate import PaddingCollator
from distill.data.dataset import DistillationDataset
from distill.data.encode import encode_split
from distill.data.prepare import PreparedData
from distill.modeling import loading
from distill.reporting.tensorboard import TensorBoardLogger
from distill.teacher.config import TeacherConfig
from distill.training.fine_tuning import FineTuningPlan, fine_tune
from distill.training.optimizer import AdamW
from distill.training.trainer import TrainerFactory

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Teacher:
    """A teacher whose head is trained for the task.

    Attributes:
        name: what reports call it.
        model: in evaluation mode, its classes in the data's order.
        tokenizer: its own.
        hash: of its weights.
        seconds: what fine-tuning took in this run; 0 where it was not needed or was reused.
        reused: whether it came as it is or from the cache.
        members: of an ensemble, each teacher by its name.
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    hash: str
    seconds: float
    reused: bool
    members: Mapping[str, "Teacher"] = field(default_factory=dict)

    @property
    def primary(self) -> "Teacher":
        """The one that a student may start from: itself, or an ensemble's first."""
        return next(iter(self.members.values()), self)


def prepare_teacher(settings, *arguments, **named) -> Teacher:
    """Make a teacher ready, or every member of an ensemble; arguments as :func:`prepare_single_teacher`."""
    if hasattr(settings, "members"):
        members = {
            name: prepare_single_teacher(one, *arguments, **named)
            for name, one in settings.members.items()
        }
        return settings.build(members)
    return prepare_single_teacher(settings, *arguments, **named)


def prepare_single_teacher(
    settings: TeacherConfig,
    data: PreparedData,
    task,
    fitter: TrainerFactory,
    max_length: int,
    cache_dir: Path,
    logger: TensorBoardLogger,
) -> Teacher:
    """Load the teacher; fine-tune it if its head is not trained for these classes.

    A fine-tuned teacher is kept in ``cache_dir`` and reused, see :func:`fine_tune`.

    Raises:
        UserError: if there is no such model, or it needs fine-tuning and must not be.
    """
    path = loading.resolve_model_path(settings.path, "teacher.path")
    what = f"teacher.path={settings.path}"
    config = loading.load_config(path, what)
    tokenizer = loading.load_tokenizer(path, what)
    loading.check_max_length(config, max_length)
    order = _trained_head(config, settings, data.label_names, task)
    # What the checkpoint lacks starts from random weights: drawn from the teacher's own seed.
    torch.manual_seed(settings.seed)
    model = _load_model(task, path, data.label_names, keep_head=order is not None)
    if order is not None:
        if order != list(range(len(order))):
            _reorder_head(model, order)
            log.info("teacher: its classes are put into the data's order by name")
        log.info("teacher: %s has a head trained for these classes and is used as it is", path)
        return Teacher(
            settings.name, model.eval(), tokenizer, loading.weights_hash(model), 0.0, True
        )
    if settings.fine_tune is False:
        raise UserError(
            f"teacher.path={settings.path} has no head trained for "
            f"{', '.join(data.label_names) or task.outputs([])} and teacher.fine_tune=false "
            "forbids to train one"
        )
    if not task.keeps_head:
        _reset_head(model)
    encoded = {
        split: encode_split(
            data.splits[split], data.hashes[split], tokenizer, task, max_length, cache_dir
        )
        for split in ("train", "validation")
    }
    collate = PaddingCollator(tokenizer, task.transform(tokenizer, encoded["train"]))
    rows = {
        split: DistillationDataset(own, collate, source=data.splits[split])
        for split, own in encoded.items()
    }
    if not task.keeps_head:
        task.start(_output_layer(model), rows["train"].labels)
    plan = FineTuningPlan(
        role="teacher",
        name=settings.name,
        model=model,
        processor=tokenizer,
        data=data,
        max_length=max_length,
        train=rows["train"],
        validation=rows["validation"],
        task=task,
        optimizer=AdamW(learning_rate=settings.learning_rate),
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        seed=settings.seed,
    )
    tuned = fine_tune(plan, fitter, cache_dir, logger)
    # Loaded either way, so that this run and the ones that reuse it hold the very same teacher.
    model = _load_model(task, str(tuned.folder), data.label_names, keep_head=True).eval()
    return Teacher(
        settings.name, model, tokenizer, loading.weights_hash(model), tuned.seconds, tuned.reused
    )


def _trained_head(config, settings: TeacherConfig, names: list[str], task) -> list[int] | None:
    """Where the data's classes stand in the teacher's head; ``None`` if it has to be trained."""
    architecture = (config.architectures or [""])[0]
    if settings.fine_tune is True or not architecture.endswith(task.head):
        if settings.labels is not None:
            raise UserError("teacher.labels names the classes of a head that will not be used")
        return None
    theirs = dict(enumerate(settings.labels)) if settings.labels else config.id2label
    if settings.labels and len(settings.labels) != config.num_labels:
        raise UserError(
            f"teacher.labels names {len(settings.labels)} classes, its head has {config.num_labels}"
        )
    kind = getattr(config, "problem_type", None)
    if kind not in task.heads and not (settings.labels and kind is None):
        if settings.labels:
            raise UserError(
                f"teacher.labels: the teacher's head is trained for {kind}, not for "
                f"task={task.name}"
            )
        log.warning(
            "teacher: its head is trained for %s, the task is %s: a new head is fine-tuned%s",
            kind or "nothing that its config tells (problem_type)", task.name,
            "" if kind else " (if it was trained for this, name its outputs with "
            f"teacher.labels=[{', '.join(names)}])",
        )  # fmt: skip
        return None
    order = task.head_order(theirs, names)
    if order is None:
        if settings.labels:
            raise UserError(
                f"teacher.labels={list(settings.labels)} are not the data's classes {names}"
            )
        log.warning(
            "teacher: its head knows %s, the data have %s: a new head is fine-tuned "
            "(if they mean the same, name its classes with teacher.labels=[...])",
            ", ".join(config.id2label.values()), ", ".join(names),
        )  # fmt: skip
    return order


def _load_model(task, path: str, names: list[str], keep_head: bool) -> PreTrainedModel:
    # The head's names are set after loading where a trained head must be kept as it is.
    settings = {} if keep_head else task.head_settings(names)
    try:
        model = task.auto_model.from_pretrained(
            path, dtype=torch.float32, ignore_mismatched_sizes=not keep_head, **settings
        )
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"the model in {path} cannot be loaded: {reason}") from error
    if keep_head:
        model.config.update(task.head_settings(names))
    return model


def _output_layer(model: PreTrainedModel) -> nn.Linear:
    """The head's last linear layer, one row a class."""
    linear = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not name.startswith(model.base_model_prefix + ".")
    ]
    assert linear and linear[-1].out_features == model.config.num_labels
    return linear[-1]


def _reorder_head(model: PreTrainedModel, order: list[int]) -> None:
    layer = _output_layer(model)
    with torch.no_grad():
        layer.weight.copy_(layer.weight[order].clone())
        if layer.bias is not None:
            layer.bias.copy_(layer.bias[order].clone())


def _reset_head(model: PreTrainedModel) -> None:
    """Draw the whole head anew: one of the same shape may have been trained for another task."""
    std = getattr(model.config, "initializer_range", 0.02)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and not name.startswith(model.base_model_prefix + "."):
            nn.init.normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
