"""Any pretrained model as the student."""

from dataclasses import dataclass

from transformers import PreTrainedConfig

from distill.core.errors import UserError
from distill.modeling import loading
from distill.modeling.shape import model_shape
from distill.student.base import (
    Student,
    StudentArchitecture,
    StudentContext,
    StudentFactory,
)


@dataclass(kw_only=True)
class PretrainedFactory(StudentFactory):
    """A pretrained model with its own tokenizer, which may be another than the teacher's.

    Attributes:
        path: a folder, a hub id, a run's folder (its student), or ``package:NAME``.
        name: what reports call it; the end of its path if not given.
    """

    path: str
    name: str | None = None

    def __post_init__(self):
        if self.name is None:
            self.name = self.path.removeprefix("package:").rstrip("/").split("/")[-1]

    def check(self, teacher_config: PreTrainedConfig) -> None:
        """Find out whether there is such a model, before anything is trained."""
        self.architecture(teacher_config)

    def architecture(self, teacher_config: PreTrainedConfig) -> StudentArchitecture:
        """The student's shape, and where its own tokenizer is."""
        path = loading.resolve_model_path(self.path, "student.path")
        shape = model_shape(loading.load_config(path, f"student.path={self.path}"))
        return StudentArchitecture(shape, path)

    def build(self, context: StudentContext) -> Student:
        """Return the student with its initial weights and, where its own does not fit, a new head."""
        path = loading.resolve_model_path(self.path, "student.path")
        tokenizer = context.task.preprocessor.load_processor(path, f"student.path={self.path}")
        try:
            model = context.task.head.load(path, context.label_names)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"student.path={self.path} cannot be loaded: {reason}") from error
        return Student(self.name, model, tokenizer, f"the pretrained {self.path}")
