"""Everything a user can set, built and checked before anything is trained."""

import logging
from dataclasses import dataclass
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from distill import models
from distill.data.source import Source
from distill.errors import UserError
from distill.fit import Fitter
from distill.objective import Objective
from distill.optimizer import AdamW
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
        objective: what the student is trained on, bound to the task.
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
    objective: Objective
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
            objective=parts["objective"].bind(parts["task"]),
            optimizer=parts["optimizer"],
            fitter=parts["trainer"],
            seed=config.seed,
            control=config.control,
            cache_dir=Path(config.cache_dir).expanduser(),
        )
        job._check()
        return job

    @property
    def live(self) -> bool:
        """Whether the teacher runs on every batch of the student's training."""
        if not self.objective.needs:
            return False
        return self.teacher.outputs == "live" or bool(self.objective.needs - {"logits"})

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
