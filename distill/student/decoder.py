"""A student of the teacher's own family in another shape, with random weights."""

import copy
from dataclasses import dataclass

from transformers import PreTrainedConfig

from distill.core.errors import UserError
from distill.modeling.shape import model_shape
from distill.student.base import (
    Student,
    StudentArchitecture,
    StudentContext,
    StudentFactory,
)


@dataclass(kw_only=True)
class OwnShapeFactory(StudentFactory):
    """A model of the teacher's configuration class whose sizes are given.

    Attributes:
        name: name in reports.
        hidden_layers: number of layers; ``None``, here and below: the teacher's.
        hidden_size: width of the layers.
        heads: number of attention heads; a model with fewer heads of keys and values gets as many
            of them as divide the number.
        intermediate_size: width of the feed-forward layers.
    """

    name: str
    hidden_layers: int | None = None
    hidden_size: int | None = None
    heads: int | None = None
    intermediate_size: int | None = None

    def __post_init__(self) -> None:
        for key, value in self._sizes.items():
            if value is not None and value < 1:
                raise UserError(f"student.{key}={value}: it must be 1 or more")

    @property
    def _sizes(self) -> dict[str, int | None]:
        return {
            "hidden_layers": self.hidden_layers,
            "hidden_size": self.hidden_size,
            "heads": self.heads,
            "intermediate_size": self.intermediate_size,
        }

    def student_config(self, teacher_config: PreTrainedConfig) -> PreTrainedConfig:
        """Return the student's configuration.

        Raises:
            UserError: for a family that lacks a size that is given, or a width that heads do not
                divide.
        """
        config = copy.deepcopy(teacher_config)
        heads = self.heads or config.num_attention_heads
        width = self.hidden_size or config.hidden_size
        if width % heads:
            raise UserError(
                f"student: {heads} heads do not divide a hidden_size of {width}: give "
                "student.heads and student.hidden_size that fit"
            )
        if self.intermediate_size is not None:
            names = [n for n in ("intermediate_size", "n_inner") if hasattr(config, n)]
            if not names:
                raise UserError(
                    f"student.intermediate_size={self.intermediate_size}: {config.model_type} has "
                    "no such size"
                )
            setattr(config, names[0], self.intermediate_size)
        elif self.hidden_size is not None and isinstance(
            inner := getattr(config, "intermediate_size", None), int
        ):
            config.intermediate_size = max(1, inner * width // teacher_config.hidden_size)
        config.num_hidden_layers = self.hidden_layers or config.num_hidden_layers
        config.hidden_size, config.num_attention_heads = width, heads
        groups = getattr(config, "num_key_value_heads", None)
        if isinstance(groups, int):
            config.num_key_value_heads = next(n for n in range(groups, 0, -1) if heads % n == 0)
        if getattr(config, "head_dim", None) is not None:
            config.head_dim = width // heads
        kinds = getattr(config, "layer_types", None)
        if kinds is not None:  # the teacher's pattern from its first layer on
            repeated = list(kinds) * (-(-config.num_hidden_layers // len(kinds)))
            config.layer_types = repeated[: config.num_hidden_layers]
        return config

    def check(self, teacher_config: PreTrainedConfig) -> None:
        """Raise a ``UserError`` for a shape that the teacher's family does not have."""
        self.student_config(teacher_config)

    def architecture(self, teacher_config: PreTrainedConfig) -> StudentArchitecture:
        """Return the architecture; the tokenizer is the teacher's."""
        return StudentArchitecture(model_shape(self.student_config(teacher_config)))

    def build(self, context: StudentContext) -> Student:
        """Return the student with random weights."""
        config = self.student_config(context.teacher.pretrained_model.config)
        config.update(context.head_settings())
        model = context.task.head.build(config)
        if model.can_generate():
            generation = context.teacher.pretrained_model.generation_config
            model.generation_config = copy.deepcopy(generation)
        return Student(self.name, model, context.teacher.processor, "random weights", True)
