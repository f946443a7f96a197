"""This program, through the same classes in the same order as ``distill.pipeline.run.run``.

Four ways: with a live teacher; the same in fp32; as it comes (stored outputs, bf16 where the
processor is good at it, batches of like length); and plain fine-tuning of the same student on the
same batches, which is what its control does.
"""

import copy
import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from contestants.clock import Clock
from contestants.work import Work
from distill.data.dataset import DistillationDataset
from distill.objectives.objective import Objective
from distill.objectives.pair import ModelPair
from distill.objectives.terms.hard_labels import HardLabels
from distill.pipeline.components import RunComponents
from distill.pipeline.datamodule import DistillationDataModule
from distill.student.base import Student, StudentContext
from distill.teacher.prepare import Teacher, TeacherPreparation, prepare_teacher
from distill.training.loggers import TensorBoardLogger
from distill.training.module import DistillationModule
from distill.training.trainer import TrainingPlan


@dataclass(frozen=True)
class Parts:
    """What a run has when its training begins."""

    job: RunComponents
    teacher: Teacher
    student: Student
    datamodule: DistillationDataModule


@functools.cache
def parts_of(folder: Path, overrides: tuple[str, ...]) -> Parts:
    """Made once a process: only the training is timed."""
    work = Work.read(folder)
    job, data = work.job(*overrides), work.data
    job.bind_objective(len(data.label_names))
    logger = TensorBoardLogger(folder / "logs")
    preparation = TeacherPreparation(
        data, job.task, job.trainer, job.source.max_length, job.cache_dir, logger
    )
    teacher = prepare_teacher(job.teacher, preparation)
    torch.manual_seed(job.seed)
    context = StudentContext(teacher.primary, job.task, data, job.cache_dir)
    student = job.student.build(context)
    return Parts(job, teacher, student, DistillationDataModule(job, data, teacher, student))


class Ours:
    """A student of its own, and the trainer's settings.

    Args:
        work: what to do.
        overrides: as on the command line.
        alone: without the teacher.
        module: the Lightning module; one that looks on may take its place.
    """

    counts_entropy = False

    def __init__(
        self,
        work: Work,
        overrides: tuple[str, ...] = (),
        alone: bool = False,
        module: type[DistillationModule] = DistillationModule,
    ):
        self.work, self.parts = work, parts_of(work.folder, overrides)
        job, teacher = self.parts.job, self.parts.teacher
        (stage,) = job.stages
        self.student: nn.Module = copy.deepcopy(self.parts.student.model)
        self.objective = stage.objective
        if alone:
            self.objective = Objective("fine_tuning", hard_labels=HardLabels(weight=1.0))
            self.objective.bind(ModelPair(job.task, len(work.data.label_names)))
        self.module = module(
            self.student, self.objective, job.task, job.optimizer,
            teacher=teacher.model if job.runs_teacher_live(self.objective) else None,
        )  # fmt: skip

    @property
    def in_bf16(self) -> bool:
        """Whether its losses are as exact as bf16."""
        return self.parts.job.trainer.hardware.precision == "bf16-mixed"

    @property
    def batches(self) -> DistillationDataset:
        """What it learns from."""
        return self.parts.datamodule.train_dataset(self.objective)

    def loss(self, rows: list[int]) -> Tensor:
        """Of its training step, in its precision."""
        self.module.log = lambda *_, **__: None
        optimizer = torch.optim.SGD(self.student.parameters(), lr=0.0)
        schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
        self.module.lr_schedulers = lambda: schedule
        hardware = self.parts.job.trainer.hardware
        self.module.to(hardware.device).on_fit_start()
        batch = self.module.transfer_batch_to_device(self.batches[rows], hardware.device, 0)
        with hardware.autocast():
            return self.module.training_step(batch, 0)

    def train(self, clock: Clock) -> None:
        """One epoch."""
        job = self.parts.job
        with tempfile.TemporaryDirectory(dir=self.work.folder) as folder:
            train = copy.copy(self.batches)
            loader = train.loader
            train.loader = lambda *arguments: clock.timed(loader(*arguments))
            plan = TrainingPlan(
                module=self.module,
                train=train,
                validation=self.parts.datamodule.validation,
                batch_size=job.source.batch_size,
                seed=job.seed,
                checkpoint_dir=Path(folder) / "checkpoints",
                logger=TensorBoardLogger(Path(folder)),
            )
            job.trainer.fit(plan)


def live(work: Work) -> Ours:
    """The teacher runs on every batch."""
    return Ours(work, ("teacher.outputs=live",))


def live_fp32(work: Work) -> Ours:
    """As the other tools compute, but for batches of like length."""
    return Ours(work, ("teacher.outputs=live", "trainer.precision=32-true"))


def cached(work: Work) -> Ours:
    """As it comes."""
    return Ours(work)


def fine_tuning(work: Work) -> Ours:
    """The floor."""
    return Ours(work, alone=True)
