"""A network for images with random weights as the student."""

from dataclasses import dataclass
from typing import Any, ClassVar

from transformers import PreTrainedConfig

from distill.data.image_preprocessor import output_shape
from distill.modeling.image_networks import network_config
from distill.modeling.shape import model_shape
from distill.student.base import Student, StudentArchitecture, StudentContext, StudentFactory
from distill.tasks.base import Task

PROVISIONAL_SIZE = (32, 32)


@dataclass(kw_only=True)
class NetworkFactory(StudentFactory):
    """A network of a given shape that reads images as the teacher does.

    Attributes:
        name: name in reports; empty or ``None``: that of the shape.
        shape: name of the shape, see :data:`~distill.modeling.image_networks.SHAPES`.
        settings: fields of the network's configuration that differ from the shape.
    """

    name: str = ""
    shape: str = "vgg_tiny"
    settings: dict[str, Any] | None = None

    supported_heads: ClassVar[tuple[str, ...] | None] = ("ForImageClassification",)

    def __post_init__(self) -> None:
        self.name = self.name or self.shape
        self._config(PROVISIONAL_SIZE, 3)

    def check(self, teacher_config: PreTrainedConfig) -> None:
        """Accept every teacher."""

    def check_inputs(self, task: Task, processor: Any) -> None:
        """Raise a ``UserError`` for images that the network cannot read."""
        description = f"student.shape={self.shape}"
        task.preprocessor.check_model(self.config_for(processor), processor, description)

    def config_for(self, processor: Any) -> PreTrainedConfig:
        """Return the network's configuration for the images that the teacher reads."""
        channels, height, width = output_shape(processor, "the teacher")
        return self._config((height, width), channels)

    def architecture(self, teacher_config: PreTrainedConfig) -> StudentArchitecture:
        """Return the architecture."""
        return StudentArchitecture(model_shape(self._config(PROVISIONAL_SIZE, 3)))

    def build(self, context: StudentContext) -> Student:
        """Return the student with random weights and the teacher's image processor."""
        processor = context.teacher.processor
        config = self.config_for(processor)
        config.update(context.head_settings())
        return Student(
            self.name, context.task.head.build(config), processor, "random weights", new_head=True
        )

    def _config(self, size: tuple[int, int], channels: int) -> PreTrainedConfig:
        return network_config(self.shape, self.settings or {}, "student", size, channels)
