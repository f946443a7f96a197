"""Evaluate a saved model on any data set, with the measurements of a run."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from hydra.utils import instantiate
from omegaconf import DictConfig
from transformers import PreTrainedConfig, PreTrainedModel

from distill.core.cache import begin_run
from distill.core.errors import UserError
from distill.core.hardware import Hardware
from distill.core.jagged import ArrayOrJagged
from distill.data.dataset import DistillationDataset
from distill.data.prepare import PreparedData, prepare_data
from distill.data.sources.base import DataSource
from distill.evaluation.baselines import BaselineInputs, measure_baselines
from distill.evaluation.evaluator import (
    EvaluatedModel,
    ExportedModule,
    MeasuredBaselines,
    compare_models,
    evaluate_models,
)
from distill.modeling import loading
from distill.modeling.head import reorder_head
from distill.pipeline import report_builder
from distill.pipeline.components import baseline_roles
from distill.pipeline.run_directory import RunDirectory
from distill.reporting import run_report
from distill.reporting.schema import SCHEMA, DataInfo, Report, Reused, Role, Timing
from distill.tasks.base import Task
from distill.teacher.prepare import load_model
from distill.training.inference import predict_logits

log = logging.getLogger(__name__)

COMMAND = "distill-evaluate"


class ExportedModel(Protocol):
    """An exported form beside the model in torch that it was made of."""

    @property
    def saved(self) -> Path:
        """Folder of the model in torch, which names labels and parameters."""

    @property
    def module(self) -> ExportedModule:
        """The form as it is timed."""

    @property
    def files(self) -> Sequence[Path]:
        """What it weighs on the disk."""

    def logits(
        self,
        model: PreTrainedModel,
        processor: Any,
        task: Task,
        data: PreparedData,
        examples: DistillationDataset,
        max_length: int,
    ) -> ArrayOrJagged:
        """Compute the logits of the evaluated split, as the task's evaluator reduces them."""


# A path and the name of a form -> the exported model, None: the model is in torch.
ExportedModelOpener = Callable[[str, str | None], ExportedModel | None]


def evaluate(config: DictConfig, open_exported: ExportedModelOpener | None = None) -> Report:
    """Evaluate a model, and write its report into ``config.output_dir``.

    The model has the role of the student, the one that it is compared with that of the teacher.

    Args:
        config: Composed and validated.
        open_exported: Opens exported models; ``None``: only models in torch are known.

    Raises:
        UserError: For a mistake of the user, before anything is measured.
    """
    started = datetime.now(UTC)
    source = _without_training_data(
        instantiate(config.data, _convert_="all"), list(config.overrides)
    )
    task: Task = instantiate(config.task, _convert_="all")
    evaluation = _Evaluation(
        task,
        source,
        prepare_data(source, task.schema, Path(config.cache_dir).expanduser()),
        instantiate(config.trainer),
        Path(config.cache_dir).expanduser(),
    )
    data = evaluation.data
    for note in data.notes:
        log.info("data: %s", note)
    form = config.get("form")
    exported = open_exported(config.model, form) if open_exported is not None else None
    saved = str(exported.saved) if exported is not None else config.model
    paths = {Role.STUDENT: ("model", saved, config.labels)}
    if config.reference is not None:
        paths = {Role.TEACHER: ("reference", config.reference, None), **paths}
    loaded = {
        role: evaluation.load(option, path, labels, exported is not None and role == Role.STUDENT)
        for role, (option, path, labels) in paths.items()
    }
    roles = baseline_roles(config, task)
    candidates = [
        evaluation.predict(role, paths[role][1], *model, exported if role == Role.STUDENT else None)
        for role, model in loaded.items()
    ]
    log.info("measuring %d models on %d examples", len(candidates), data.sizes["test"])
    clock = time.perf_counter()
    models = evaluate_models(candidates, task, evaluation.hardware.device)
    seconds = time.perf_counter() - clock
    teacher = candidates[0] if config.reference is not None else None
    baselines = evaluation.measure_baselines(roles, candidates[-1], *loaded[Role.STUDENT], teacher)
    comparison = compare_models(models, candidates, task, compared_only=baselines.of_linear_model)
    report = Report(
        schema=SCHEMA,
        run=replace(report_builder.run_info(config, started), extra={"command": COMMAND}),
        task=task.name,
        data=DataInfo(
            name=data.name,
            fingerprint=task.evaluator.fingerprint(data.fingerprint, candidates[-1].examples),
            examples=data.sizes,
            evaluated_on=data.evaluated_on,
            labels=tuple(data.label_names),
            notes=(*data.notes, *baselines.notes),
        ),
        environment=report_builder.describe_environment(evaluation.hardware),
        models=tuple(models),
        baselines=tuple(baselines.models),
        comparison=comparison,
        timing=Timing(measure=seconds, baselines=baselines.seconds),
        reused=Reused(baselines=baselines.reused),
    )
    # Last of all: a folder that holds an evaluation is refused.
    RunDirectory(Path(config.output_dir)).write_config(config, COMMAND)
    begin_run()
    run_report.write(report, Path(config.output_dir))
    return report


@dataclass(frozen=True)
class _Evaluation:
    """What all evaluated models share."""

    task: Task
    source: DataSource
    data: PreparedData
    hardware: Hardware
    cache_dir: Path

    def load(
        self, option: str, path: str, labels: list[str] | None, is_exported: bool = False
    ) -> tuple[PreTrainedModel, Any]:
        """Load a model and its processor, its outputs in the order of the data's labels.

        Args:
            is_exported: Whether an exported form is evaluated, whose outputs stay as they are.
            option: The option that names the model, for messages.
            path: A folder or a hub id.
            labels: Names of the outputs; ``None``: those of its configuration.

        Raises:
            UserError: If there is no such model, or its head is not trained for these outputs.
        """
        given, names = f"{option}={path}", self.data.label_names
        found = loading.resolve_model_path(path, option)
        config = loading.load_config(found, given)
        processor = self.task.preprocessor.load_processor(found, given)
        loading.check_max_length(config, self.source.max_length)
        loading.check_vocabulary(processor, config, given)
        self._check_head(config, given, labels)
        model_names = {
            int(index): name
            for index, name in (enumerate(labels) if labels else (config.id2label or {}).items())
        }
        order = self.task.head.output_order(model_names, names)
        if order is None:
            raise UserError(
                f"{given} knows {', '.join(model_names.values())}, the data have "
                f"{', '.join(names)}: where they mean the same, name the model's outputs with "
                "labels=[...]"
            )
        model = load_model(self.task.head, found, names, keep_head=True)
        if order != list(range(len(order))):
            if is_exported:
                raise UserError(
                    f"{given} is exported with its outputs in another order than the data's "
                    f"labels ({', '.join(names)}): evaluate the model in torch, form=null"
                )
            reorder_head(model, order)
        return model.eval(), processor

    def _check_head(self, config: PreTrainedConfig, given: str, labels: list[str] | None) -> None:
        head, architecture = self.task.head, (config.architectures or ["none"])[0]
        if not architecture.endswith(head.architectures):
            raise UserError(
                f"{given} has no head for task={self.task.name}: its architecture is {architecture}"
            )
        problem_type = getattr(config, "problem_type", None)
        accepted = problem_type in head.accepted_problem_types
        if not accepted and not (labels and problem_type is None):
            raise UserError(
                f"{given} is trained for {problem_type or 'an unknown problem_type'}, not for "
                f"task={self.task.name}: choose another task, or name its outputs with labels=[...]"
            )
        if labels and len(labels) != config.num_labels:
            raise UserError(
                f"labels names {len(labels)} outputs, the model has {config.num_labels}"
            )

    def predict(
        self,
        role: str,
        path: str,
        model: PreTrainedModel,
        processor: Any,
        exported: ExportedModel | None = None,
    ) -> EvaluatedModel:
        """Compute the logits of the evaluated split, by the exported form if there is one."""
        examples = self._encoded(processor, "test")["test"]
        if exported is not None:
            return EvaluatedModel(
                role,
                f"{exported.saved.name}/{exported.module.runtime}",
                model,
                examples,
                exported.logits(
                    model, processor, self.task, self.data, examples, self.source.max_length
                ),
                exported.files,
                exported=exported.module,
            )
        logits = predict_logits(
            model, examples, self.hardware, reduce_logits=self.task.evaluator.reduce_logits
        )
        name = path.removeprefix("package:").rstrip("/").split("/")[-1]
        files = loading.weight_files(loading.resolve_model_path(path, role))
        return EvaluatedModel(role, name, model, examples, logits, files)

    def measure_baselines(
        self,
        roles: Sequence[str],
        student: EvaluatedModel,
        model: PreTrainedModel,
        processor: Any,
        teacher: EvaluatedModel | None,
    ) -> MeasuredBaselines:
        """Fit the baselines to the training examples, as the model reads them."""
        splits = self._encoded(processor, "train", "validation")
        outputs = self.task.head.output_size(len(self.data.label_names), model.config)
        inputs = BaselineInputs(
            self.data, splits["train"], splits["validation"], student.examples, outputs
        )
        return measure_baselines(roles, self.task, inputs, self.cache_dir, teacher)

    def _encoded(self, processor: Any, *splits: str) -> dict[str, DistillationDataset]:
        """Return splits as a model reads them."""
        encoder = self.task.encoder(self.data, self.cache_dir)
        rows = {
            split: encoder.encode(split, processor, self.source.max_length)
            for split in dict.fromkeys(("train", *splits))
        }
        collator = encoder.collator(
            processor, self.task.preprocessor.batch_transform(processor, rows["train"])
        )
        return {
            split: DistillationDataset(rows[split], collator, source=self.data.splits[split])
            for split in splits
        }


def _without_training_data(source: DataSource, overrides: Sequence[str]) -> DataSource:
    """Return the source without the settings of training data that a preset makes.

    Raises:
        UserError: if the user has given one, which would be ignored.
    """
    for option in ("limit", "unlabeled", "unlabeled_limit", "unlabeled_select", "augmentation"):
        given = any(override.lstrip("+").startswith(f"data.{option}=") for override in overrides)
        if given and getattr(source, option) is not None:
            raise UserError(f"data.{option} is about training: leave it out of an evaluation")
    return replace(
        source, limit=None, augmentation=None, unlabeled=None, unlabeled_limit=None,
        unlabeled_select="random", unlabeled_neighbors=None, unlabeled_encoder=None,
    )  # fmt: skip
