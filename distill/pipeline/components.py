"""Everything a user can set, built and checked before anything is trained."""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from distill.core.errors import UserError
from distill.data.sources.base import DataSource
from distill.data.tokenizers import same_tokenization
from distill.modeling import loading
from distill.modeling.features import attention_projections
from distill.modeling.shape import model_shape
from distill.objectives.objective import Objective, Recipe, Stage, training_stages
from distill.objectives.pair import ModelPair
from distill.teacher.config import TeacherConfig
from distill.teacher.ensemble import EnsembleConfig
from distill.training.optimizer import AdamW
from distill.training.trainer import TrainerFactory

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunComponents:
    """One run's parts, by the groups of conf/.

    Attributes:
        task: head, labels, hard-label loss, metrics.
        source: where the examples come from.
        teacher: which teacher, and how it is made ready.
        student: how the student is made.
        objective: what the student is trained on.
        stages: its stages, one after the other; most objectives have one.
        optimizer: of student and control.
        fitter: the trainer's settings, for every training.
        seed: of student and control.
        control: whether the control is trained.
        cache_dir: where teachers, their outputs and prepared data are kept.
    """

    task: object
    source: DataSource
    teacher: TeacherConfig | EnsembleConfig
    student: object
    objective: Objective | Recipe
    stages: list[Stage]
    optimizer: AdamW
    fitter: TrainerFactory
    seed: int
    control: bool
    cache_dir: Path

    @classmethod
    def from_config(cls, config: DictConfig) -> "RunComponents":
        """Build every part, and refuse what cannot go together.

        Raises:
            UserError: for the first mistake that can be seen without reading the data.
        """
        parts = {
            group: instantiate(config[group], _convert_="all")
            for group in ("task", "teacher", "student", "objective", "optimizer", "trainer", "data")
        }
        job = cls(
            task=parts["task"],
            source=parts["data"],
            teacher=parts["teacher"],
            student=parts["student"],
            objective=parts["objective"],
            stages=training_stages(parts["objective"]),
            optimizer=parts["optimizer"],
            fitter=parts["trainer"],
            seed=config.seed,
            control=config.control,
            cache_dir=Path(config.cache_dir).expanduser(),
        )
        job._check()
        job._check_length(list(config.get("overrides") or []))
        return job

    def live(self, objective: Objective) -> bool:
        """Whether the teacher runs on every batch while the student learns an objective."""
        if not objective.needs:
            return False
        if not self.task.stores:
            return True
        return self.teacher.outputs == "live" or bool(objective.needs - {"logits"})

    @property
    def epochs(self) -> int:
        """How many the student is trained for at most, all stages together."""
        return sum(stage.epochs or self.fitter.max_epochs for stage in self.stages)

    def bind(self, classes: int) -> None:
        """Tell the objective who is paired, and refuse what cannot work, before any training.

        Args:
            classes: how many the data have.

        Raises:
            UserError: naming the term.
        """
        located = self._teachers()
        configs = {name: loading.load_config(path, "the teacher") for name, path in located.items()}
        first = next(iter(located))
        width = self.task.width(classes, configs[first])
        for config in configs.values():
            loading.check_max_length(config, self.source.max_length)
            self._check_width(classes, config, width)
            if "attention" in self.objective.needs:
                attention_projections(loading.meta_model(config))
        student, reads = self.student.outline(configs[first])
        if reads:
            own = loading.load_config(reads, "the student")
            loading.check_max_length(own, self.source.max_length)
            loading.check_head(own, self.task)
            self._check_width(classes, own, width)
        reads = located[first] if reads is None else reads
        same = {name: _reads_same_tokens(path, reads) for name, path in located.items()}
        if self.task.per_token and not all(same.values()):
            raise UserError(
                f"task={self.task.name} asks about tokens, and teacher and student cut texts into "
                "different ones: use a student with the teacher's tokenizer (student=half, third, "
                "tiny, ...; student.vocabulary=full)"
            )
        for path in located.values():
            tokenizer = loading.load_tokenizer(path, "the teacher")
            self.task.check_tokenizer(tokenizer, self.source.max_length)
        torch.manual_seed(self.seed)  # projections start from the run's seed
        self.objective.bind(
            ModelPair(
                self.task,
                width,
                student,
                {name: model_shape(config) for name, config in configs.items()},
                same,
            )
        )

    def _teachers(self) -> dict[str | None, str]:
        """Where each teacher is, by its name; a single one's is ``None``."""
        members = getattr(self.teacher, "members", {None: self.teacher})
        return {
            name: loading.resolve_model_path(one.path, "teacher.path")
            for name, one in members.items()
        }

    @property
    def has_control(self) -> bool:
        """Whether a control is trained: not where it would be the same model."""
        if self.control and not self.objective.needs:
            log.warning("the objective does not ask the teacher: no control, it would be the same")
            return False
        return self.control

    def _check_length(self, overrides: list[str]) -> None:
        """Refuse a number of epochs that no stage goes by."""
        given = any(
            override.lstrip("+").startswith("trainer.max_epochs=") for override in overrides
        )
        if given and all(stage.epochs is not None for stage in self.stages):
            names = " or ".join(f"objective.{stage.name}.epochs" for stage in self.stages)
            raise UserError(
                f"trainer.max_epochs would be ignored: objective={self.objective.name} says how "
                f"long its stages are (set {names}, to null for trainer.max_epochs)"
            )

    def _check(self) -> None:
        configs = [
            loading.load_config(path, f"teacher.path={path}") for path in self._teachers().values()
        ]
        self.student.check(configs[0])
        if self.task.per_token and getattr(self.student, "whole_texts", False):
            raise UserError(
                f"student={self.student.name} gives one answer to a whole text, and "
                f"task={self.task.name} asks about tokens: choose one with the teacher's layers "
                "(student=half, third, narrow, ...) or a small BERT (student=tiny, ...)"
            )
        if "ForMaskedLM" in self.task.head and getattr(self.student, "embedding_size", None):
            raise UserError(
                f"student.embedding_size={self.student.embedding_size}: task={self.task.name} "
                "writes with the word table too, which a product of two is not made for: leave it "
                "out"
            )
        if not self.task.stores and self.teacher.outputs == "cached":
            raise UserError(
                f"teacher.outputs=cached: task={self.task.name} has logits for every token of the "
                "vocabulary, too many to be stored: leave it at auto"
            )
        if "label" not in self.task.columns:
            self._check_without_labels()
        if self.source.augmentation is not None and not self.task.augments:
            raise UserError(
                f"augmentation={self.source.augmentation.name} makes new texts, and "
                f"task={self.task.name} reads what cannot be changed so: leave it out, "
                "data.unlabeled=... gives more to learn from"
            )
        if self.teacher.outputs == "cached" and self.objective.needs - {"logits"}:
            wanted = ", ".join(sorted(self.objective.needs - {"logits"}))
            raise UserError(
                f"teacher.outputs=cached stores logits only, the objective needs {wanted}: "
                "leave it at auto"
            )
        for option in ("unlabeled", "augmentation"):
            if getattr(self.source, option) is not None and not self.objective.needs:
                raise UserError(
                    f"data.{option} gives texts without labels, and this objective "
                    f"({self.objective.name}) does not ask the teacher: leave it out, or raise the "
                    "weight of a term that asks, such as objective.soft_targets.weight"
                )

    def _check_width(self, classes: int, config, width: int) -> None:
        """Refuse heads of different widths, which cannot be compared."""
        if (own := self.task.width(classes, config)) != width:
            raise UserError(
                f"task={self.task.name} needs models of one vocabulary: one has {own} tokens, the "
                f"teacher {width}"
            )

    def _check_without_labels(self) -> None:
        """Refuse what is about labels where a task has none."""
        if getattr(self.teacher, "labels", None) is not None:
            raise UserError(f"teacher.labels names classes: task={self.task.name} has none")
        for option in ("unlabeled", "augmentation"):
            if getattr(self.source, option) is not None:
                raise UserError(
                    f"data.{option} gives texts without labels, which is all that "
                    f"task={self.task.name} reads: leave it out, and put texts into train"
                )
        if self.source.label is not None:
            log.info("data: task=%s reads no labels (data.label)", self.task.name)


def _reads_same_tokens(teacher: str, student: str) -> bool:
    """Whether two tokenizers cut texts alike; ``""`` is one made for the student."""
    if teacher == student or not student:
        return teacher == student
    return same_tokenization(
        loading.load_tokenizer(teacher, "the teacher"),
        loading.load_tokenizer(student, "the student"),
    )
