"""Teacher and student on the same examples: who reads what, and what the teacher says of it."""

import logging
import time
from collections.abc import Sequence

import numpy as np
from datasets import concatenate_datasets

from distill.data.batches import Batches, Collate, encode
from distill.data.prepare import Data
from distill.inference import collect_logits
from distill.job import Job
from distill.measure.models import Measured
from distill.models import fitting_length
from distill.objective import Objective
from distill.ragged import Rows
from distill.student.base import Student
from distill.teacher.ensemble import JoinedCollate, JoinedRows, mean_logits
from distill.teacher.outputs import Joined, stored
from distill.teacher.ready import Teacher

log = logging.getLogger(__name__)

_CONTROL = (
    "The control has no teacher and cannot learn from texts without labels: it goes over the {} "
    "labelled examples alone, for as many steps as the student and validated as often."
)


class Pairing:
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

    def __init__(self, job: Job, data: Data, teacher: Teacher, student: Student):
        self._job, self._data, self._teacher = job, data, teacher
        self.seconds, self.reused = 0.0, True
        length = fitting_length(student.model.config, job.source.max_length)
        rows = {
            split: encode(
                data.splits[split], data.hashes[split], student.tokenizer, job.task, length,
                job.cache_dir,
            )
            for split in data.splits
        }  # fmt: skip
        self.notes = (
            _notes_on_length(rows["train"]["length"], length)
            if job.task.cuts
            else _notes_on_rows(len(data.splits["test"]), len(rows["test"]), length)
        )
        self._transform = job.task.transform(student.tokenizer, rows["train"])
        collate = Collate(student.tokenizer, self._transform)
        # Texts without labels are the student's alone; the control gets as many steps.
        training = [split for split in ("train", "unlabelled") if split in data.splits]
        every = concatenate_datasets([rows[split] for split in training])
        more = len(training) > 1
        self.train_alone = Batches(rows["train"], collate, as_many_as=len(every) if more else None)
        if more and job.control:
            self.notes.append(_CONTROL.format(len(rows["train"])))
        self.validation, self.test = (
            Batches(rows[split], collate, source=data.splits[split])
            for split in ("validation", "test")
        )
        self._every, self._training = every, training
        self._stored: Joined | None = None
        if any(stage.objective.needs and not job.live(stage.objective) for stage in job.stages):
            self._stored = Joined(self._said(training), stacked=bool(teacher.members))
        seen = self._seen(["test"])
        self.teacher = Measured("teacher", teacher.name, teacher.model, seen, self._measured(seen))

    def train(self, objective: Objective) -> Batches:
        """What the student learns an objective from, with what that needs of the teacher.

        Texts without labels are shuffled in, unless the objective does not ask the teacher.
        """
        if not objective.needs:
            return self.train_alone
        collate = self.train_alone.collate
        if not self._job.live(objective):
            return Batches(self._every, collate, teacher_logits=self._stored)
        seen = self._seen(self._training)
        return Batches(self._every, collate, seen.student, seen.collate)

    def _measured(self, seen: Batches) -> Rows:
        """What the teacher says of the evaluated split."""
        job, teacher = self._job, self._teacher
        if not job.task.stores:
            clock = time.perf_counter()
            logits = collect_logits(
                teacher.model, seen, job.fitter.hardware, condense=job.task.condense
            )
            self.seconds += time.perf_counter() - clock
            return logits
        said = [one for (one,) in self._said(["test"])]
        return mean_logits(teacher.model, said) if teacher.members else said[0]

    def _seen(self, splits: Sequence[str]) -> Batches:
        """Splits, one after another, as the teacher reads them, or each of several teachers."""
        members = self._teacher.members
        if not members:
            return self._read_by(self._teacher, splits)
        seen = {name: self._read_by(one, splits) for name, one in members.items()}
        return Batches(
            JoinedRows({name: one.student for name, one in seen.items()}),
            JoinedCollate({name: one.collate for name, one in seen.items()}),
            source=next(iter(seen.values())).source,
        )

    def _read_by(self, teacher: Teacher, splits: Sequence[str]) -> Batches:
        rows = [
            encode(
                self._data.splits[split], self._data.hashes[split], teacher.tokenizer,
                self._job.task, self._job.source.max_length, self._job.cache_dir,
            )
            for split in splits
        ]  # fmt: skip
        source = self._data.splits[splits[0]] if len(splits) == 1 else None
        collate = Collate(teacher.tokenizer, self._transform)
        return Batches(concatenate_datasets(rows), collate, source=source)

    def _said(self, splits: Sequence[str]) -> list[list[Rows]]:
        """Each teacher's logits of each split, ``(N, C)`` or ragged."""
        teachers = self._teacher.members.values() or [self._teacher]
        return [[self._said_by(one, split) for split in splits] for one in teachers]

    def _said_by(self, teacher: Teacher, split: str) -> Rows:
        logits, seconds, reused = stored(
            teacher, self._read_by(teacher, [split]), self._data.hashes[split], self._job.task,
            self._job.source.max_length, self._job.fitter.hardware, self._job.cache_dir, split,
            self._job.fitter.processes,
        )  # fmt: skip
        self.seconds += seconds
        self.reused &= reused
        return logits


def _notes_on_rows(texts: int, rows: int, max_length: int) -> list[str]:
    if texts == rows:
        return []
    return [
        f"The {texts} evaluated texts make {rows} rows of at most {max_length} tokens: a text "
        "that is longer continues in a further row. Intervals take each row for an example."
    ]


def _notes_on_length(lengths: Sequence[int], max_length: int) -> list[str]:
    share = float(np.mean(np.asarray(lengths) >= max_length))
    if share < 0.01:
        return []
    note = (
        f"{share:.0%} of the training texts fill data.max_length={max_length} tokens: "
        "what goes beyond is cut."
    )
    log.info("data: %s", note)
    return [note]
