"""Who is paired, as far as an objective has to know before anything is loaded or trained."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """What terms that look inside a model need to know of it.

    Attributes:
        layers: how many.
        width: of the hidden states.
        heads: of its attention; 0 if it has none.
        head_size: width of each head; ``None``: the heads share the width.
    """

    layers: int
    width: int
    heads: int
    head_size: int | None = None

    @property
    def attention_width(self) -> int:
        """Of queries, keys and values, all heads together."""
        return self.heads * self.head_size if self.head_size else self.width


@dataclass(frozen=True)
class Pair:
    """A student and its teachers.

    Attributes:
        task: what both do.
        classes: how many logits the head has.
        student: its shape.
        teachers: their shapes by name; a single teacher's name is ``None``.
        same_tokens: by teacher, whether it and the student cut texts into the same tokens.
    """

    task: object
    classes: int
    student: Shape | None = None
    teachers: Mapping[str | None, Shape] | None = None
    same_tokens: Mapping[str | None, bool] | None = None


def shape_of(config) -> Shape:
    """The shape that a transformers config describes."""
    return Shape(
        config.num_hidden_layers,
        config.hidden_size,
        getattr(config, "num_attention_heads", 0),
        getattr(config, "attention_head_size", None),
    )
