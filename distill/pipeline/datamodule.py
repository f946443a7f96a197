"""Teacher and student on the same examples: who reads what, and what the teacher says of it."""

import logging
import time
from collections.abc import Sequence

from datasets import concatenate_datasets

from distill.core.jagged import ArrayOrJagged
from distill.data.collate import PaddingCollator
from distill.data.dataset import DistillationDataset
from distill.data.encode import encode_split
from distill.data.prepare import PreparedData
from distill.evaluation.evaluator import EvaluatedModel
from distill.modeling.loading import check_max_length
from distill.objectives.objective import Objective
from distill.pipeline.components import RunComponents
from distill.student.base import Student
from distill.teacher.ensemble import EnsembleCollator, EnsembleRows, combine_logits
from distill.teacher.logits_cache import ConcatLogits, cached_logits
from distill.teacher.prepare import Teacher
from distill.training.inference import predict_logits

log = logging.getLogger(__name__)

_CONTROL_NOTE = (
    "The control has no teacher and cannot learn from texts without labels: it goes over the {} "
    "labelled examples alone, for as many steps as the student and validated as often."
)


class DistillationDataModule:
    """The splits as student, control and teacher get them.

    Attributes:
        train_alone: the same examples in the same order without the teacher, for the control;
            where there are texts without labels, the labelled examples over and over, an epoch as
            many batches as the student's.
        validation: for student and control.
        test: for student and control.
        teacher: the teacher on the evaluated split, ready to be compared with.
        seconds: what computing the teacher's outputs took in this run.
        reused: whether none had to be computed.
        notes: what a reader of the report should know of the examples as they are read.
    """

    def __init__(self, job: RunComponents, data: PreparedData, teacher: Teacher, student: Student):
        self._job, self._data, self._teacher = job, data, teacher
        self.seconds, self.reused = 0.0, True
        length = check_max_length(student.model.config, job.source.max_length)
        rows = {
            split: encode_split(
                data.splits[split], data.hashes[split], student.tokenizer, job.task, length,
                job.cache_dir,
            )
            for split in data.splits
        }  # fmt: skip
        self.notes = job.task.reading_notes(rows, length)
        for note in self.notes:
            log.info("data: %s", note)
        self._transform = job.task.transform(student.tokenizer, rows["train"])
        collate = PaddingCollator(student.tokenizer, self._transform)
        # Texts without labels are the student's alone; the control gets as many steps.
        training = [split for split in ("train", "unlabelled") if split in data.splits]
        every = concatenate_datasets([rows[split] for split in training])
        more = len(training) > 1
        self.train_alone = DistillationDataset(
            rows["train"], collate, as_many_as=len(every) if more else None
        )
        if more and job.control:
            self.notes.append(_CONTROL_NOTE.format(len(rows["train"])))
        self.validation, self.test = (
            DistillationDataset(rows[split], collate, source=data.splits[split])
            for split in ("validation", "test")
        )
        self._every, self._training = every, training
        self._stored: ConcatLogits | None = None
        if any(stage.objective.needs and not job.live(stage.objective) for stage in job.stages):
            self._stored = ConcatLogits(self._said(training), stacked=bool(teacher.members))
        seen = self._seen(["test"])
        self.teacher = EvaluatedModel(
            "teacher", teacher.name, teacher.model, seen, self._measured(seen)
        )

    def train(self, objective: Objective) -> DistillationDataset:
        """What the student learns an objective from, with what that needs of the teacher.

        Texts without labels are shuffled in, unless the objective does not ask the teacher.
        """
        if not objective.needs:
            return self.train_alone
        collate = self.train_alone.collate
        if not self._job.live(objective):
            return DistillationDataset(self._every, collate, teacher_logits=self._stored)
        seen = self._seen(self._training)
        return DistillationDataset(self._every, collate, seen.student, seen.collate)

    def _measured(self, seen: DistillationDataset) -> ArrayOrJagged:
        """What the teacher says of the evaluated split."""
        job, teacher = self._job, self._teacher
        if not job.task.stores:
            clock = time.perf_counter()
            logits = predict_logits(
                teacher.model, seen, job.fitter.hardware, reduce_logits=job.task.condense
            )
            self.seconds += time.perf_counter() - clock
            return logits
        said = [one for (one,) in self._said(["test"])]
        return combine_logits(teacher.model, said, job.task) if teacher.members else said[0]

    def _seen(self, splits: Sequence[str]) -> DistillationDataset:
        """Splits, one after another, as the teacher reads them, or each of several teachers."""
        members = self._teacher.members
        if not members:
            return self._read_by(self._teacher, splits)
        seen = {name: self._read_by(one, splits) for name, one in members.items()}
        return DistillationDataset(
            EnsembleRows({name: one.student for name, one in seen.items()}),
            EnsembleCollator({name: one.collate for name, one in seen.items()}),
            source=next(iter(seen.values())).source,
        )

    def _read_by(self, teacher: Teacher, splits: Sequence[str]) -> DistillationDataset:
        rows = [
            encode_split(
                self._data.splits[split], self._data.hashes[split], teacher.tokenizer,
                self._job.task, self._job.source.max_length, self._job.cache_dir,
            )
            for split in splits
        ]  # fmt: skip
        source = self._data.splits[splits[0]] if len(splits) == 1 else None
        collate = PaddingCollator(teacher.tokenizer, self._transform)
        return DistillationDataset(concatenate_datasets(rows), collate, source=source)

    def _said(self, splits: Sequence[str]) -> list[list[ArrayOrJagged]]:
        """Each teacher's logits of each split, ``(N, C)`` or ragged."""
        teachers = self._teacher.members.values() or [self._teacher]
        return [[self._said_by(one, split) for split in splits] for one in teachers]

    def _said_by(self, teacher: Teacher, split: str) -> ArrayOrJagged:
        logits, seconds, reused = cached_logits(
            teacher, self._read_by(teacher, [split]), self._data.hashes[split], self._job.task,
            self._job.source.max_length, self._job.fitter.hardware, self._job.cache_dir, split,
            self._job.fitter.launcher,
        )  # fmt: skip
        self.seconds += seconds
        self.reused &= reused
        return logits
