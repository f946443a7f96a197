"""Number and widths of a model's layers, as loss terms need to know them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from transformers import PreTrainedConfig


@dataclass(frozen=True)
class ModelShape:
    """Shape of a model, or of one of its stacks of layers.

    Attributes:
        layers: number of layers; 0 if the model is no stack of equal layers.
        width: width of the hidden states.
        heads: number of attention heads; 0 without attention.
        head_size: width of each head; ``None``: the heads share the width.
        stacks: shapes of the single stacks of a model with several, such as ``encoder`` and
            ``decoder``.
        convolutional: whether it is a convolutional network for images, whose states are maps.
        feature_maps: of a convolutional network, channels, height and width of the last map of
            each size, by ``strideN``; only known where a loss term looks at them.
    """

    layers: int
    width: int
    heads: int
    head_size: int | None = None
    stacks: Mapping[str, "ModelShape"] = field(default_factory=dict)
    convolutional: bool = False
    feature_maps: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)

    @property
    def attention_width(self) -> int:
        """Width of queries, keys and values, all heads together."""
        return self.heads * self.head_size if self.head_size else self.width


def model_shape(config: PreTrainedConfig) -> ModelShape:
    """Return the shape that a transformers configuration describes."""
    width = getattr(config, "hidden_size", None)
    if width is None:  # convolutional models have a width for each stage
        width = (getattr(config, "hidden_sizes", None) or [0])[-1]
    heads = getattr(config, "num_attention_heads", None) or 0
    shape = ModelShape(
        getattr(config, "num_hidden_layers", None) or 0,
        width,
        heads,
        getattr(config, "attention_head_size", None),
        convolutional=hasattr(config, "num_channels") and not heads,
    )
    if not getattr(config, "is_encoder_decoder", False):
        return shape
    depths = {
        "encoder": getattr(config, "encoder_layers", None) or shape.layers,
        "decoder": getattr(config, "decoder_layers", None)
        or getattr(config, "num_decoder_layers", None)
        or shape.layers,
    }
    stacks = {
        name: ModelShape(depth, width, heads, shape.head_size) for name, depth in depths.items()
    }
    return ModelShape(shape.layers, width, heads, shape.head_size, stacks)
