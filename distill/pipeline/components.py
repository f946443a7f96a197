"""Everything that a configuration describes, built and checked before anything is trained."""

import copy
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig
from transformers import PreTrainedConfig

from distill.config.error_messages import user_message
from distill.core.cache import cache_key
from distill.core.errors import UserError
from distill.data.prepare import UNLABELED, PreparedData, prepare_data
from distill.data.sources.base import DataSource
from distill.modeling import loading
from distill.modeling.features import attention_projections
from distill.modeling.needs import Need
from distill.modeling.shape import model_shape
from distill.objectives.objective import Objective, Recipe, Stage, training_stages
from distill.objectives.pair import ModelPair
from distill.pipeline.compatibility import check_compatibility, check_foreign_options
from distill.reporting.schema import BASELINES, Role
from distill.student.base import StudentFactory
from distill.tasks.base import Task
from distill.teacher.config import TeacherConfig
from distill.teacher.ensemble import EnsembleConfig, expand_seeds
from distill.teacher.scratch import ScratchConfig
from distill.training.optimizer import AdamW
from distill.training.trainer import TrainerFactory

log = logging.getLogger(__name__)

# What says how long a training is, in an override.
TRAINING_LENGTHS = {
    "teacher": ("teacher.epochs", "debug", "experiment"),
    "student": ("trainer.max_epochs", "debug", "experiment"),
}
# Families whose attention overflows in half precision: transformers masks with fp32's least number.
FULL_PRECISION = frozenset({"deberta"})
GROUPS = ("task", "teacher", "student", "objective", "optimizer", "trainer", "data")


@dataclass(frozen=True)
class RunComponents:
    """The components of one run, by the groups of conf/.

    Attributes:
        task: schema, preprocessor, head, criterion and evaluator.
        source: source of the examples.
        teacher: which teacher, and how it is prepared.
        student: how the student is made.
        objective: what the student is trained on.
        stages: the stages of the objective, most have one.
        optimizer: optimizer of student and control.
        trainer: settings of every training.
        seed: seed of student and control.
        repeats: number of seeds that they are trained on, from this one.
        control: whether a control is asked for.
        baselines: roles of the baselines that are asked for.
        cache_dir: where teachers, their outputs and prepared data are kept.
    """

    task: Task
    source: DataSource
    teacher: TeacherConfig | EnsembleConfig
    student: StudentFactory
    objective: Objective | Recipe
    stages: list[Stage]
    optimizer: AdamW
    trainer: TrainerFactory
    seed: int
    repeats: int
    control: bool
    baselines: list[str]
    cache_dir: Path

    @classmethod
    def from_config(cls, config: DictConfig) -> "RunComponents":
        """Build every component, and refuse combinations that cannot work.

        Raises:
            UserError: for the first mistake that can be seen without reading the data.
        """
        parts = {group: _instantiate(group, config[group]) for group in GROUPS}
        for package in config.get("allow_code") or []:
            log.warning("allow_code: code of the package %s is run", package)
        source, teacher = parts["data"], expand_seeds(parts["teacher"])
        if source.unlabeled_select == "nearest" and source.unlabeled_encoder is None:
            first = next(iter(getattr(teacher, "members", {"": teacher}).values()))
            source = replace(source, unlabeled_encoder=first.path)
        cache_dir = Path(config.cache_dir).expanduser()
        if isinstance(teacher, ScratchConfig):
            data = prepare_data(source, parts["task"].schema, cache_dir)
            teacher = teacher.create(parts["task"], data, cache_dir)
        components = cls(
            task=parts["task"],
            source=source,
            teacher=teacher,
            student=parts["student"],
            objective=parts["objective"],
            stages=training_stages(parts["objective"]),
            optimizer=parts["optimizer"],
            trainer=parts["trainer"],
            seed=config.seed,
            repeats=config.get("repeats", 1),
            control=config.control,
            baselines=baseline_roles(config, parts["task"]),
            cache_dir=cache_dir,
        )
        teacher_config = next(iter(components._teacher_configs().values()))
        check_compatibility(components)
        check_foreign_options(components.task.schema, list(config.get("overrides") or []))
        components.student.check(teacher_config)
        if not components.task.schema.has_labels and components.source.label is not None:
            log.info("data: task=%s reads no labels (data.label)", components.task.name)
        components._check_max_epochs(list(config.get("overrides") or []))
        return components

    def for_data(self, data: PreparedData) -> "RunComponents":
        """Return the components for prepared data, whose images decide how a new teacher looks.

        Raises:
            UserError: for data that no such teacher can be made for.
        """
        return replace(self, teacher=self.teacher.for_data(data, self.cache_dir))

    def further_seeds(self, config: DictConfig) -> "Iterator[RunComponents]":
        """Yield the components of every seed after the first, their objectives not yet bound.

        Each has an objective of its own: what terms learn, such as projections, belongs to one
        training.

        Args:
            config: what these components were made from.
        """
        for seed in range(self.seed + 1, self.seed + self.repeats):
            objective = instantiate(config.objective, _convert_="all")
            yield replace(self, seed=seed, objective=objective, stages=training_stages(objective))

    def runs_teacher_live(self, objective: Objective) -> bool:
        """Return whether the teacher runs on every batch while an objective is trained on."""
        if not objective.needs:
            return False
        if not self.task.criterion.caches_logits:
            return True
        return self.teacher.outputs == "live" or bool(objective.needs - {Need.LOGITS})

    def optimizer_for(self, stage: Stage) -> AdamW:
        """Return the optimizer's settings, with those that a stage has of its own."""
        return replace(self.optimizer, **stage.optimizer_settings)

    def with_min_steps(self, data: PreparedData, overrides: Sequence[str]) -> "RunComponents":
        """Return components that train for the task's smallest number of steps, or as they are.

        On few examples the usual number of epochs is few steps. What the overrides say about the
        length of a training counts in any case.

        Args:
            data: prepared data.
            overrides: those of the run.
        """
        least = self.task.min_steps
        if least is None:
            return self
        given = {override.lstrip("+").split("=")[0] for override in overrides}
        sizes, changed = data.sizes, self
        if not given & set(TRAINING_LENGTHS["teacher"]):
            steps = -(-sizes["train"] // self.teacher.batch_size)
            epochs = max(self.teacher.epochs, -(-least // steps))
            changed = replace(changed, teacher=replace(self.teacher, epochs=epochs))
        if not given & set(TRAINING_LENGTHS["student"]):
            steps = -(-(sizes["train"] + sizes.get(UNLABELED, 0)) // self.source.batch_size)
            trainer = copy.copy(self.trainer)
            trainer.max_epochs = max(trainer.max_epochs, -(-least // steps))
            changed = replace(changed, trainer=trainer)
        for role, before, after in (
            ("teacher", self.teacher.epochs, changed.teacher.epochs),
            ("student", self.trainer.max_epochs, changed.trainer.max_epochs),
        ):
            if after > before:
                log.info(
                    "%s: at most %d epochs instead of %d, for %d steps (task.min_steps)",
                    role, after, before, least,
                )  # fmt: skip
        return changed

    @property
    def max_epochs(self) -> int:
        """Maximum number of epochs of the student, all stages together."""
        return sum(stage.epochs or self.trainer.max_epochs for stage in self.stages)

    @property
    def trains_control(self) -> bool:
        """Whether a control is trained: not where it would be the same model."""
        if self.control and not self.objective.needs:
            log.warning("the objective does not use the teacher: no control, it would be the same")
            return False
        return self.control

    def input_hashes(self, data: PreparedData) -> dict[str, str]:
        """Return a hash of each split and of the files of each model that the run starts from."""
        hashes = {f"the data of {split}": value for split, value in data.hashes.items()}
        hashes["the label names"] = cache_key(label_names=data.label_names)
        for name, path in self._teacher_paths().items():
            described = "the teacher" if name is None else f"the teacher {name}"
            hashes[described] = loading.files_hash(path)
        student = self.student.architecture(next(iter(self._teacher_configs().values())))
        if student.processor_path is not None:
            hashes["the pretrained student"] = loading.files_hash(student.processor_path)
        return hashes

    def check_training_length(self, data: PreparedData) -> None:
        """Refuse limits and intervals by which the student would not be trained or validated."""
        sizes = data.sizes
        for stage in self.stages:
            uses_all = bool(stage.objective.needs)
            self.trainer.check_length(
                "trainer.max_epochs" if stage.epochs is None else "objective.*.epochs",
                sizes["train"] + (sizes.get(UNLABELED, 0) if uses_all else 0),
                sizes["validation"], self.source.batch_size,
                stage.epochs or self.trainer.max_epochs,
            )  # fmt: skip

    def bind_objective(self, num_labels: int) -> None:
        """Validate teacher and student against each other, and bind the objective to them.

        Args:
            num_labels: number of label names of the data.

        Raises:
            UserError: for models or terms that cannot work together, before any training.
        """
        paths, configs = self._teacher_paths(), self._teacher_configs()
        first = next(iter(paths))
        num_outputs = self.task.head.output_size(num_labels, configs[first])
        for config in configs.values():
            loading.check_max_length(config, self.source.max_length)
            self.task.head.check_teacher(config, self.task.name)
            self._check_output_size(num_labels, config, num_outputs)
            if Need.ATTENTION in self.objective.needs:
                attention_projections(loading.meta_model(config))
        student = self.student.architecture(configs[first])
        self._check_precision(list(configs.values()))
        if student.processor_path is not None:
            student_config = loading.load_config(student.processor_path, "the student")
            self._check_precision([student_config])
            loading.check_max_length(student_config, self.source.max_length)
            self.task.head.check_config(student_config, self.task.name)
            self._check_output_size(num_labels, student_config, num_outputs)
        processors = {name: self._load_processor(path, "teacher") for name, path in paths.items()}
        if student.trims_vocabulary or getattr(self.student, "max_length", None) is not None:
            same_tokens = dict.fromkeys(paths, False)
        else:
            student_path = student.processor_path or paths[first]
            processor = self._load_processor(student_path, "student")
            same_tokens = {
                name: path == student_path
                or self.task.preprocessor.same_inputs(processors[name], processor)
                for name, path in paths.items()
            }
        if self.task.token_level and not all(same_tokens.values()):
            raise UserError(
                f"task={self.task.name} needs one output per token, and teacher and student "
                "tokenize differently: use a student with the teacher's tokenizer (student=half, "
                "third, tiny, ...; student.vocabulary=full)"
            )
        for name, path in paths.items():
            loading.check_vocabulary(processors[name], configs[name], f"teacher.path={path}")
        if student.processor_path is not None:
            loading.check_vocabulary(processor, student_config, f"the student in {student_path}")
        preprocessor = self.task.preprocessor
        for name, processor_of in processors.items():
            preprocessor.check_processor(processor_of, self.source.max_length)
            preprocessor.check_model(configs[name], processor_of, f"teacher.path={paths[name]}")
        if student.processor_path is not None:
            preprocessor.check_model(student_config, processor, f"the student in {student_path}")
        self.student.check_inputs(self.task, processors[first])
        shapes = {name: model_shape(config) for name, config in configs.items()}
        student_shape = student.shape
        if Need.FEATURE_MAPS in self.objective.needs:
            shapes = {
                name: replace(
                    shape, feature_maps=preprocessor.feature_maps(configs[name], processors[name])
                )
                for name, shape in shapes.items()
            }
            own = (
                self.student.config_for(processors[first])
                if student.processor_path is None
                else student_config
            )
            if own is not None:
                used = processors[first] if student.processor_path is None else processor
                maps = preprocessor.feature_maps(own, used)
                student_shape = replace(student_shape, feature_maps=maps)
        torch.manual_seed(self.seed)  # projections start from the run's seed
        self.objective.bind(ModelPair(self.task, num_outputs, student_shape, shapes, same_tokens))

    def _load_processor(self, path: str, role: str) -> Any:
        return self.task.preprocessor.load_processor(path, f"the {role}")

    def _teacher_paths(self) -> dict[str | None, str]:
        """Return the folder or hub id of each teacher by name; a single one's name is ``None``."""
        members = getattr(self.teacher, "members", {None: self.teacher})
        return {
            name: loading.resolve_model_path(member.path, "teacher.path")
            for name, member in members.items()
        }

    def _teacher_configs(self) -> dict[str | None, PreTrainedConfig]:
        members = getattr(self.teacher, "members", {None: self.teacher})
        return {name: member.load_config() for name, member in members.items()}

    def _check_precision(self, configs: Sequence[PreTrainedConfig]) -> None:
        """Refuse models whose attention fails in the precision that is trained in."""
        precision = self.trainer.hardware.precision
        for config in configs:
            if config.model_type in FULL_PRECISION and precision != "32-true":
                raise UserError(
                    f"trainer.precision={precision}: models of the family {config.model_type} "
                    "cannot be trained in it, set trainer.precision=32-true"
                )

    def _check_output_size(
        self, num_labels: int, config: PreTrainedConfig, num_outputs: int
    ) -> None:
        """Refuse heads of different sizes, which cannot be compared."""
        size = self.task.head.output_size(num_labels, config)
        if size != num_outputs:
            raise UserError(
                f"task={self.task.name} needs models of one vocabulary: one has {size} tokens, the "
                f"teacher {num_outputs}"
            )

    def _check_max_epochs(self, overrides: list[str]) -> None:
        """Refuse a number of epochs that no stage uses."""
        given = any(
            override.lstrip("+").startswith("trainer.max_epochs=") for override in overrides
        )
        if given and all(stage.epochs is not None for stage in self.stages):
            names = " or ".join(f"objective.{stage.name}.epochs" for stage in self.stages)
            raise UserError(
                f"trainer.max_epochs would be ignored: objective={self.objective.name} says how "
                f"long its stages are (set {names}, to null for trainer.max_epochs)"
            )


def _instantiate(group: str, node: DictConfig) -> Any:
    try:
        return instantiate(node, _convert_="all")
    except InstantiationException as error:
        # A logger or callback of somebody else's, whose constructor may refuse anything.
        others = node.get("logger") or node.get("callbacks")
        if group != "trainer" or not others or user_message(error) is not None:
            raise
        raise UserError(
            f"trainer.logger or trainer.callbacks: {error.__cause__ or error}"
        ) from error


def baseline_roles(config: DictConfig, task: Task) -> list[str]:
    """Return the roles that the option ``baselines`` names.

    Raises:
        UserError: for what is no list, and for a baseline that neither every task nor this one
            has.
    """
    given = config.get("baselines", [])
    known = dict.fromkeys([*map(str, BASELINES), *task.baselines])
    roles = [given] if isinstance(given, str) else list(given or [])
    # Asked for a linear model, a task of images has the one on pixels.
    if Role.PIXELS in task.baselines:
        roles = [Role.PIXELS if role == Role.WORDS else role for role in roles]
    for role in roles:
        if role not in known:
            raise UserError(f"baselines: there is no {role}, choose from {', '.join(known)}")
    return list(dict.fromkeys(map(str, roles)))
