"""A toy student: the last layers of the teacher."""

from dataclasses import dataclass

from transformers import PreTrainedConfig

from distill.core.errors import UserError
from distill.student.base import Student, StudentArchitecture, StudentContext, StudentFactory
from distill.student.from_layers import LayersFactory


@dataclass(kw_only=True)
class LastLayersFactory(StudentFactory):
    """Copies the last layers of the teacher.

    Attributes:
        name: name in reports.
        count: number of layers.
    """

    name: str = "last"
    count: int = 1

    def _factory(self, depth: int) -> LayersFactory:
        return LayersFactory(name=self.name, layers=list(range(depth - self.count, depth)))

    def check(self, teacher_config: PreTrainedConfig) -> None:
        """Refuse more layers than the teacher has."""
        if self.count > teacher_config.num_hidden_layers:
            raise UserError(
                f"student.count={self.count}: the teacher has "
                f"{teacher_config.num_hidden_layers} layers"
            )

    def architecture(self, teacher_config: PreTrainedConfig) -> StudentArchitecture:
        """The shape of the copied layers."""
        return self._factory(teacher_config.num_hidden_layers).architecture(teacher_config)

    def build(self, context: StudentContext) -> Student:
        """The student with the teacher's weights."""
        return self._factory(context.teacher.model.config.num_hidden_layers).build(context)
