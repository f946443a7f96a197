"""Everything a user can set, built and checked before anything is trained."""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from distill import models
from distill.data.batches import tokenizer_hash
from distill.data.source import Source
from distill.errors import UserError
from distill.fit import Fitter
from distill.objective import Objective, Recipe, Stage, stages_of
from distill.optimizer import AdamW
from distill.pair import Pair, shape_of
from distill.teacher.spec import TeacherSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
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
    source: Source
    teacher: TeacherSettings
    student: object
    objective: Objective | Recipe
    stages: list[Stage]
    optimizer: AdamW
    fitter: Fitter
    seed: int
    control: bool
    cache_dir: Path

    @classmethod
    def from_config(cls, config: DictConfig) -> "Job":
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
            stages=stages_of(parts["objective"]),
            optimizer=parts["optimizer"],
            fitter=parts["trainer"],
            seed=config.seed,
            control=config.control,
            cache_dir=Path(config.cache_dir).expanduser(),
        )
        job._check()
        return job

    def live(self, objective: Objective) -> bool:
        """Whether the teacher runs on every batch while the student learns an objective."""
        if not objective.needs:
            return False
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
        path = models.locate(self.teacher.path, "teacher.path")
        config = models.load_config(path, "teacher.path")
        student, tokenizer = self.student.outline(config)
        same = tokenizer is None or self._same_tokens(path, tokenizer)
        torch.manual_seed(self.seed)  # projections start from the run's seed
        self.objective.bind(
            Pair(self.task, classes, student, {None: shape_of(config)}, {None: same})
        )

    def _same_tokens(self, teacher: str, student: str) -> bool:
        first, second = (
            tokenizer_hash(models.load_tokenizer(path, what))
            for path, what in ((teacher, "the teacher"), (student, "the student"))
        )
        return first == second

    @property
    def has_control(self) -> bool:
        """Whether a control is trained: not where it would be the same model."""
        if self.control and not self.objective.needs:
            log.warning("the objective does not ask the teacher: no control, it would be the same")
            return False
        return self.control

    def _check(self) -> None:
        path = models.locate(self.teacher.path, "teacher.path")
        config = models.load_config(path, f"teacher.path={self.teacher.path}")
        self.student.check(config)
        if self.teacher.outputs == "cached" and self.objective.needs - {"logits"}:
            wanted = ", ".join(sorted(self.objective.needs - {"logits"}))
            raise UserError(
                f"teacher.outputs=cached stores logits only, the objective needs {wanted}: "
                "leave it at auto"
            )
        for option in ("unlabelled", "augmentation"):
            if getattr(self.source, option) is not None and not self.objective.needs:
                raise UserError(
                    f"data.{option} gives texts without labels, and this objective "
                    f"({self.objective.name}) does not ask the teacher: leave it out, or raise the "
                    "weight of a term that asks, such as objective.soft_targets.weight"
                )
