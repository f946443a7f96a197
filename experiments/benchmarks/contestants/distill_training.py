"""``distill``, with the same classes in the same order as ``distill.pipeline.run.run``.

Four variants: with a live teacher; the same in fp32; with default settings (cached logits, bf16 if
the processor supports it well, batches of similar length); and plain fine-tuning of the same
student on the same batches, as for its control.
"""

import copy
import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

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
    """Components of a run at the start of its training."""

    job: RunComponents
    teacher: Teacher
    student: Student
    datamodule: DistillationDataModule


@functools.cache
def parts_of(folder: Path, overrides: tuple[str, ...]) -> Parts:
    """Prepare a run, once per process: only the training is timed."""
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


class DistillTraining:
    """A separate copy of the student, and the trainer of the run.

    Args:
        work: The workload.
        overrides: Options as on the command line.
        plain: Whether to fine-tune on hard labels only, without the teacher.
        module: Class of the Lightning module; a subclass may measure it.
    """

    counts_entropy = False

    def __init__(
        self,
        work: Work,
        overrides: tuple[str, ...] = (),
        plain: bool = False,
        module: type[DistillationModule] = DistillationModule,
    ):
        self.work, self.parts = work, parts_of(work.folder, overrides)
        job, teacher = self.parts.job, self.parts.teacher
        (stage,) = job.stages
        self.student: nn.Module = copy.deepcopy(self.parts.student.model)
        self.objective = stage.objective
        if plain:
            self.objective = Objective("fine_tuning", hard_labels=HardLabels(weight=1.0))
            self.objective.bind(ModelPair(job.task, len(work.data.label_names)))
        self.module = module(
            self.student, self.objective, job.task, job.optimizer,
            teacher=teacher.model if job.runs_teacher_live(self.objective) else None,
        )  # fmt: skip

    @property
    def in_bf16(self) -> bool:
        """Whether it trains in bf16."""
        return self.parts.job.trainer.hardware.precision == "bf16-mixed"

    @property
    def batches(self) -> DistillationDataset:
        """The training data."""
        return self.parts.datamodule.train_dataset(self.objective)

    def loss(self, rows: list[int]) -> Tensor:
        """Compute the loss with ``training_step`` in the run's precision."""
        self.module.log = lambda *_, **__: None
        schedule = LambdaLR(torch.optim.SGD(self.student.parameters(), lr=0.0), lambda _: 1.0)
        self.module.lr_schedulers = lambda: schedule
        hardware = self.parts.job.trainer.hardware
        self.module.to(hardware.device).on_fit_start()
        batch = self.module.transfer_batch_to_device(self.batches[rows], hardware.device, 0)
        with hardware.autocast():
            return self.module.training_step(batch, 0)

    def train(self, clock: Clock) -> None:
        """Train for one epoch."""
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


def live(work: Work) -> DistillTraining:
    """Run the teacher on every batch."""
    return DistillTraining(work, ("teacher.outputs=live",))


def live_fp32(work: Work) -> DistillTraining:
    """Compute as the other tools do, except for batches of similar length."""
    return DistillTraining(work, ("teacher.outputs=live", "trainer.precision=32-true"))


def cached(work: Work) -> DistillTraining:
    """Use the default settings."""
    return DistillTraining(work)


def fine_tuning(work: Work) -> DistillTraining:
    """Fine-tune without a teacher: the lower bound of the time."""
    return DistillTraining(work, plain=True)
