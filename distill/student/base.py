"""What every student factory provides."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from transformers import PreTrainedConfig, PreTrainedModel

from distill.data.prepare import PreparedData
from distill.modeling.head import Head
from distill.modeling.shape import ModelShape
from distill.tasks.base import Task
from distill.teacher.prepare import Teacher


@dataclass(frozen=True)
class Student:
    """A student before its training.

    Attributes:
        name: name in reports.
        model: with its initial weights.
        processor: its own processor, or the teacher's.
        origin: where the initial weights come from, in words for the report and the model card.
        new_head: whether its head has random weights.
        max_length: maximum number of tokens that it reads; ``None``: as many as the teacher.
    """

    name: str
    model: PreTrainedModel
    processor: Any
    origin: str
    new_head: bool = False
    max_length: int | None = None


@dataclass(frozen=True)
class StudentArchitecture:
    """What is known of a student before it is built.

    Attributes:
        shape: layers and widths.
        processor_path: folder or hub id of its own processor; ``None``: the teacher's.
        trims_vocabulary: whether it gets a smaller vocabulary made from the training texts.
    """

    shape: ModelShape
    processor_path: str | None = None
    trims_vocabulary: bool = False


@dataclass(frozen=True)
class StudentContext:
    """What a student is built from.

    Attributes:
        teacher: prepared, with a trained head.
        task: the task.
        data: prepared data; its training inputs may decide the vocabulary.
        cache_dir: where intermediate results are kept.
    """

    teacher: Teacher
    task: Task
    data: PreparedData
    cache_dir: Path

    @property
    def label_names(self) -> list[str]:
        """Names of the head's outputs."""
        return self.data.label_names

    def head_settings(self) -> dict[str, Any]:
        """Return what the student's configuration says about the outputs."""
        return self.task.head.config_settings(self.label_names)


class StudentFactory(ABC):
    """One way to make a student. A new student is a subclass and a file in conf/student.

    Attributes:
        name: name in reports.
        supported_heads: endings of the class names of the heads that the student can have;
            ``None``: those of the teacher's family.
    """

    name: str
    supported_heads: ClassVar[tuple[str, ...] | None] = None

    @abstractmethod
    def check(self, teacher_config: PreTrainedConfig) -> None:
        """Raise a ``UserError`` if no student can be made for a teacher, before any training."""

    def check_weights(self, head: Head, label_names: Sequence[str]) -> None:
        """Raise a ``UserError`` if weights that it starts from do not fit, before any training.

        Args:
            head: the task's.
            label_names: names of the head's outputs.
        """
        return

    def check_inputs(self, task: Task, processor: Any) -> None:
        """Raise a ``UserError`` if the student cannot read its inputs, before any training.

        Args:
            task: the task.
            processor: the teacher's, which a student without one of its own shares.
        """
        return

    def config_for(self, processor: Any) -> PreTrainedConfig | None:
        """Return the student's configuration for what a teacher's processor makes.

        ``None`` where it is not known before the student is built.
        """
        return None

    @abstractmethod
    def architecture(self, teacher_config: PreTrainedConfig) -> StudentArchitecture:
        """Return the student's architecture for a teacher."""

    @abstractmethod
    def build(self, context: StudentContext) -> Student:
        """Return the student with its initial weights."""
