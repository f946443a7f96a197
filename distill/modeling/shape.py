"""distill.modeling.shape"""

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelShape:
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


def model_shape(config) -> ModelShape:
    """The shape that a transformers config describes."""
    return ModelShape(
        config.num_hidden_layers,
        config.hidden_size,
        getattr(config, "num_attention_heads", 0),
        getattr(config, "attention_head_size", None),
    )
