"""Splits as student, control and teacher read them, with the teacher's outputs."""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
from datasets import Dataset, concatenate_datasets
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from distill.core.jagged import ArrayOrJagged
from distill.data.dataset import DistillationDataset
from distill.data.prepare import UNLABELED, PreparedData
from distill.data.views import LogitsByView
from distill.evaluation.baselines import BaselineInputs
from distill.evaluation.evaluator import EvaluatedModel
from distill.evaluation.teacher_check import teacher_notes
from distill.modeling.ensemble import Ensemble
from distill.modeling.loading import check_max_length
from distill.objectives.objective import Objective
from distill.pipeline.components import RunComponents
from distill.reporting.schema import Role
from distill.student.base import Student
from distill.teacher.ensemble import EnsembleCollator, EnsembleRows, combine_logits
from distill.teacher.logits_cache import ConcatLogits, cached_logits
from distill.teacher.prepare import Teacher
from distill.training.inference import predict_logits

log = logging.getLogger(__name__)

_CONTROL_NOTE = (
    "The control has no teacher and cannot learn from {} without labels: it goes over the {} "
    "labeled examples alone, for as many steps as the student and validated as often."
)
_CONTROLS_NOTE = (
    "Two controls were trained on seed {seed}, the better one on validation counts: one with as "
    "many steps as the student ({metric} {equal:.4f}), one with the usual {epochs} ({metric} "
    "{usual:.4f}). The control is the one {counts}."
)
_CONTROL_NAMES = {
    Role.CONTROL_EQUAL_STEPS: "with as many steps",
    Role.CONTROL_USUAL_LENGTH: "of the usual length",
}


_NO_TEXT_NOTE = (
    "A student without attention layers lives on text that the teacher labels, and gets none: "
    " data.unlabeled=... names a file, a folder or a hub id, augmentation=combined makes "
    "some."
)
_MEMBERS_NOTE = (
    "The teacher is an ensemble. Alone its members reach {} {}: a student of all of them may pass "
    "a single one."
)


class DistillationDataModule(pl.LightningDataModule):
    """Encoded splits, and loaders for each stage of the student's training.

    Stored teacher logits are computed on construction, or taken from the cache.

    Args:
        components: the run's components.
        data: prepared splits.
        teacher: prepared teacher.
        student: student before its training.

    Attributes:
        control_train: training split without the teacher, for the control. With unlabeled inputs
            the labeled examples repeat, and an epoch has as many batches as the student's.
        labeled_train: the same, each example once in an epoch.
        has_unlabeled: whether the student also learns from unlabeled inputs.
        validation: validation split of student and control.
        test: evaluated split of student and control.
        teacher_evaluation: the teacher's predictions on the evaluated split.
        seconds: time of computing teacher outputs in this run.
        reused: whether none had to be computed.
        notes: notes for the report on how the examples were encoded.
    """

    def __init__(
        self, components: RunComponents, data: PreparedData, teacher: Teacher, student: Student
    ):
        super().__init__()
        self._components, self._data, self._teacher = components, data, teacher
        self._encoder = components.task.encoder(data, components.cache_dir)
        self.seconds, self.reused = 0.0, True
        preprocessor = components.task.preprocessor
        max_length = check_max_length(
            student.model.config, student.max_length or components.source.max_length
        )
        rows = {
            split: self._encoder.encode(split, student.processor, max_length)
            for split in data.splits
        }
        self.notes = [
            *preprocessor.notes(rows, max_length),
            *preprocessor.processor_notes(student.processor, rows["train"]),
        ]
        for note in self.notes:
            log.info("data: %s", note)
        self._transform = preprocessor.batch_transform(student.processor, rows["train"])
        self._collate = self._encoder.collator(student.processor, self._transform)
        # Unlabeled inputs are the student's alone; the control gets as many steps.
        self._train_splits = [split for split in ("train", UNLABELED) if split in data.splits]
        self._train_rows = concatenate_datasets([rows[split] for split in self._train_splits])
        self.has_unlabeled = len(self._train_splits) > 1
        self.labeled_train = self.control_train = DistillationDataset(
            rows["train"], self._collate, source=data.splits["train"]
        )
        if (
            components.task.schema.inputs_are == "texts"
            and _learns_from_text_alone(student.model)
            and not self.has_unlabeled
            and components.objective.needs
        ):
            self.notes.append(_NO_TEXT_NOTE)
            log.info("data: %s", _NO_TEXT_NOTE)
        if self.has_unlabeled:
            self.control_train = DistillationDataset(
                rows["train"], self._collate, examples_per_epoch=len(self._train_rows)
            )
        if self.has_unlabeled and components.control:
            self.notes.append(
                _CONTROL_NOTE.format(components.task.schema.inputs_are, len(rows["train"]))
            )
        self.validation, self.test = (
            DistillationDataset(rows[split], self._collate, source=data.splits[split])
            for split in ("validation", "test")
        )
        self._stored: ConcatLogits | LogitsByView | None = None
        if any(
            stage.objective.needs and not components.runs_teacher_live(stage.objective)
            for stage in components.stages
        ):
            self._stored = self._stored_logits(bool(teacher.members))
        self.teacher_evaluation = self.evaluate_teacher("test")

    @property
    def labels(self) -> np.ndarray:
        """Labels of the training split, ``(N, ...)`` or ``(U,)``."""
        return self.control_train.label_values

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Return shuffled batches of the last stage, with what it needs of the teacher.

        For a Lightning ``Trainer`` of one's own. :class:`~distill.training.trainer.TrainerFactory`
        takes the datasets instead, since every rank makes a loader of its own.
        """
        dataset = self.train_dataset(self._components.stages[-1].objective)
        return dataset.loader(self._components.source.batch_size, self._components.seed)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Return batches of the validation split."""
        return self.validation.loader(self._components.source.batch_size, None)

    def test_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Return batches of the evaluated split."""
        return self.test.loader(self._components.source.batch_size, None)

    def baseline_inputs(self, student: Student) -> BaselineInputs:
        """Return what baselines are fitted and measured on, as the student reads it."""
        outputs = self._components.task.head.output_size(
            len(self._data.label_names), student.model.config
        )
        return BaselineInputs(self._data, self.labeled_train, self.validation, self.test, outputs)

    def note_controls(
        self, best: Mapping[str, float], counts: str, seed: int, epochs: int, batch_size: int
    ) -> None:
        """Add a note on which of two controls counts.

        Args:
            best: metric of each on validation, by role.
            counts: role of the one that counts.
            seed: of their training.
            epochs: of the control of the usual length.
            batch_size: of the control of the usual length.
        """
        source = self._components.source
        note = _CONTROLS_NOTE.format(
            seed=seed,
            metric=self._components.task.evaluator.metric_name,
            equal=best[Role.CONTROL_EQUAL_STEPS],
            usual=best[Role.CONTROL_USUAL_LENGTH],
            epochs=f"{epochs} epoch{'s' if epochs > 1 else ''} over the labeled examples"
            + (f" in batches of {batch_size}" if batch_size < source.batch_size else ""),
            counts=_CONTROL_NAMES[Role(counts)],
        )
        log.info("control: %s", note)
        self.notes.append(note)

    def train_dataset(self, objective: Objective) -> DistillationDataset:
        """Return the training examples with what an objective needs of the teacher.

        Unlabeled inputs are among them unless the objective does not use the teacher.
        """
        if not objective.needs:
            return self.control_train
        if not self._components.runs_teacher_live(objective):
            return DistillationDataset(self._train_rows, self._collate, teacher_logits=self._stored)
        examples = self._teacher_examples(self._train_splits)
        return DistillationDataset(
            self._train_rows, self._collate, examples.student, examples.collate
        )

    def evaluate_teacher(self, split: str) -> EvaluatedModel:
        """Return the teacher's predictions on a split, from the cache where they are stored."""
        examples = self._teacher_examples([split])
        logits = self._evaluation_logits(examples, split)
        teacher = self._teacher
        return EvaluatedModel(
            "teacher", teacher.name, teacher.model, examples, logits, teacher.weight_files
        )

    def _evaluation_logits(self, examples: DistillationDataset, split: str) -> ArrayOrJagged:
        task, teacher = self._components.task, self._teacher
        if not task.criterion.caches_logits:
            clock = time.perf_counter()
            logits = predict_logits(
                teacher.model, examples, self._components.trainer.hardware,
                reduce_logits=task.evaluator.reduce_logits,
            )  # fmt: skip
            self.seconds += time.perf_counter() - clock
            return logits
        members = [logits for (logits,) in self._teacher_logits([split])]
        if split == "test":
            self._check_teachers(members)
        if not isinstance(teacher.model, Ensemble):
            return members[0]
        if split == "test":
            self.notes.append(self._members_note(split, members))
        return combine_logits(teacher.model, members, task.criterion)

    def _members_note(self, split: str, logits: Sequence[ArrayOrJagged]) -> str:
        """Return what each member of an ensemble reaches alone."""
        evaluator, members = self._components.task.evaluator, self._teacher.members
        scores = []
        for (name, member), rows in zip(members.items(), logits, strict=True):
            inputs = evaluator.metric_inputs(rows, self._examples_of(member, [split]))
            scores.append(f"{evaluator.selection_metric(*inputs):.3f} ({name})")
        return _MEMBERS_NOTE.format(evaluator.metric_name, ", ".join(scores))

    def _check_teachers(self, logits: Sequence[ArrayOrJagged]) -> None:
        """Warn of teachers whose outputs do not mean what the labels do.

        Args:
            logits: each teacher's, of the evaluated split.
        """
        teachers = self._teacher.members or {"": self._teacher}
        for (name, teacher), of_teacher in zip(teachers.items(), logits, strict=True):
            if teacher.output_order is None:
                continue
            for note in teacher_notes(
                of_teacher, self._examples_of(teacher, ["test"]), self._components.task,
                self._data.label_names, teacher.output_order,
            ):  # fmt: skip
                note = f"{name}: {note}" if name else note
                log.warning("teacher: %s", note)
                self.notes.append(note)

    def _teacher_examples(self, splits: Sequence[str]) -> DistillationDataset:
        """Return splits, concatenated, as the teacher reads them, or every member of an ensemble.

        The result holds them as its ``student`` rows.
        """
        members = self._teacher.members
        if not members:
            return self._examples_of(self._teacher, splits)
        examples = {name: self._examples_of(member, splits) for name, member in members.items()}
        return DistillationDataset(
            EnsembleRows({name: dataset.student for name, dataset in examples.items()}),
            EnsembleCollator({name: dataset.collate for name, dataset in examples.items()}),
            source=next(iter(examples.values())).source,
        )

    def _examples_of(
        self, teacher: Teacher, splits: Sequence[str], view: int | None = None
    ) -> DistillationDataset:
        rows = [
            self._encoder.encode(split, teacher.processor, self._components.source.max_length)
            for split in splits
        ]
        source: Dataset | None = self._data.splits[splits[0]] if len(splits) == 1 else None
        collate = self._encoder.collator(teacher.processor, self._transform)
        if view is not None:
            collate = collate.with_view(view)
        return DistillationDataset(concatenate_datasets(rows), collate, source=source)

    def _stored_logits(self, stacked: bool) -> ConcatLogits | LogitsByView:
        """Return the logits of all training examples, of each view where they have several."""
        views = self._collate.views
        if views is None:
            return ConcatLogits(self._teacher_logits(self._train_splits), stacked)
        return LogitsByView(
            [
                ConcatLogits(self._teacher_logits(self._train_splits, number), stacked)
                for number in range(views.count)
            ]
        )

    def _teacher_logits(
        self, splits: Sequence[str], view: int | None = None
    ) -> list[list[ArrayOrJagged]]:
        """Return each teacher's logits of each split, ``(N, C)`` or jagged."""
        teachers = self._teacher.members.values() or [self._teacher]
        return [
            [self._cached_logits(teacher, split, view) for split in splits] for teacher in teachers
        ]

    def _cached_logits(
        self, teacher: Teacher, split: str, view: int | None = None
    ) -> ArrayOrJagged:
        components = self._components
        examples, described = self._examples_of(teacher, [split], view), None
        if view is not None:
            settings = components.task.preprocessor.training_settings
            described = f"{view} of {sorted(settings.items())}"
        logits, seconds, reused = cached_logits(
            teacher, examples, self._data.hashes[split],
            components.task.preprocessor, components.source.max_length,
            components.trainer.hardware, components.cache_dir, split,
            components.trainer.launcher, described,
        )  # fmt: skip
        self.seconds += seconds
        self.reused &= reused
        return logits


def _learns_from_text_alone(model: PreTrainedModel) -> bool:
    """Return whether a student has no attention layers, which pretraining would have filled."""
    return not getattr(model.config, "num_attention_heads", 0)
