"""Any pretrained model as the student."""

from dataclasses import dataclass
from pathlib import Path

from distill.core.errors import UserError
from distill.data.prepare import PreparedData
from distill.modeling import loading
from distill.modeling.shape import ModelShape, model_shape
from distill.student.base import Student
from distill.teacher.prepare import Teacher


@dataclass(kw_only=True)
class PretrainedFactory:
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

    def check(self, teacher_config) -> None:
        """Find out whether there is such a model, before anything is trained."""
        self.outline(teacher_config)

    def outline(self, teacher_config) -> tuple[ModelShape, str | None]:
        """The student's shape, and where its own tokenizer is."""
        path = loading.resolve_model_path(self.path, "student.path")
        return model_shape(loading.load_config(path, f"student.path={self.path}")), path

    def build(
        self,
        teacher: Teacher,
        task,
        label_names: list[str],
        cache_dir: Path,
        data: PreparedData | None = None,
    ) -> Student:
        """The student with its first weights and, where its own does not fit, a new head."""
        path = loading.resolve_model_path(self.path, "student.path")
        tokenizer = loading.load_tokenizer(path, f"student.path={self.path}")
        try:
            model = task.load(path, label_names)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"student.path={self.path} cannot be loaded: {reason}") from error
        return Student(self.name, model, tokenizer, f"the pretrained {self.path}")
