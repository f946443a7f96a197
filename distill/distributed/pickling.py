"""Pickle for what is sent to other processes, transformers models included."""

import io
import pickle
import sys
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel


class Pickler(pickle.Pickler):
    """Pickles a transformers model as class, config and weights.

    transformers installs hooks to record hidden states and attentions; pickle refuses these hooks.
    """

    def reducer_override(self, value: Any) -> Any:
        """Return how to rebuild a transformers model; anything else is pickled as usual."""
        if not isinstance(value, PreTrainedModel):
            return NotImplemented
        frozen = [
            name for name, parameter in value.named_parameters() if not parameter.requires_grad
        ]
        return _rebuild_model, (
            type(value), value.config, value.state_dict(), value.training, frozen,
        )  # fmt: skip


def dumps(value: Any) -> bytes:
    """Serialize an object that may contain tensors and transformers models."""
    content = io.BytesIO()
    torch.save(value, content, pickle_module=sys.modules[__name__])
    return content.getvalue()


def loads(content: bytes) -> Any:
    """Restore what :func:`dumps` has serialized, with every tensor on the CPU."""
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=False)


def _rebuild_model(
    model_class: type[PreTrainedModel],
    config: PreTrainedConfig,
    state: dict[str, torch.Tensor],
    training: bool,
    frozen: list[str],
) -> PreTrainedModel:
    model = model_class(config)
    model.load_state_dict(state)
    for name in frozen:
        model.get_parameter(name).requires_grad_(False)
    return model.train(training)
