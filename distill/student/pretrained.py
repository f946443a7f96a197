"""A pretrained model as the student."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedConfig

from distill.modeling import loading
from distill.modeling.head import Head
from distill.modeling.shape import model_shape
from distill.student.base import (
    Student,
    StudentArchitecture,
    StudentContext,
    StudentFactory,
)


@dataclass(kw_only=True)
class PretrainedFactory(StudentFactory):
    """A pretrained model with its own tokenizer, which may differ from the teacher's.

    Attributes:
        path: a folder, a hub id, the folder of a run (its student), or ``package:NAME``.
        name: name in reports; empty or ``None``: the end of the path.
    """

    path: str
    name: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            self.name = self.path.removeprefix("package:").rstrip("/").split("/")[-1]

    def check(self, teacher_config: PreTrainedConfig) -> None:
        """Raise a ``UserError`` if there is no such model."""
        self.architecture(teacher_config)

    def architecture(self, teacher_config: PreTrainedConfig) -> StudentArchitecture:
        """Return the architecture, with the path of the student's own tokenizer."""
        path = loading.resolve_model_path(self.path, "student.path")
        shape = model_shape(loading.load_config(path, f"student.path={self.path}"))
        return StudentArchitecture(shape, path)

    def build(self, context: StudentContext) -> Student:
        """Return the pretrained student; a head that does not fit the task is replaced."""
        path = loading.resolve_model_path(self.path, "student.path")
        tokenizer = context.task.preprocessor.load_processor(path, f"student.path={self.path}")
        model, new_head = context.task.head.start(path, context.label_names)
        return Student(self.name, model, tokenizer, f"the pretrained {self.path}", new_head)

    def check_weights(self, head: Head, label_names: Sequence[str]) -> None:
        """Raise a ``UserError`` if the student's weights cannot be loaded."""
        head.start(loading.resolve_model_path(self.path, "student.path"), label_names)
