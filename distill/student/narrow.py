"""Narrower copies of a transformer: fewer hidden units, heads and feed-forward units."""

import copy
import re
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from distill.core.errors import UserError
from distill.modeling.architectures import COMPACT
from distill.modeling.compact import as_compact, head_name, head_size
from distill.modeling.families import (
    ATTENTION_OUTPUT_WEIGHT,
    VALUE_WEIGHT,
    WEIGHT_AXES,
    family_name,
    find_family,
    layer_stack,
)

Importance = Literal["first", "magnitude"]

# Families whose weight axes are known and whose widths can be changed.
NARROWABLE = (*COMPACT, "distilbert")


@dataclass(frozen=True)
class Widths:
    """Widths of a transformer.

    Attributes:
        hidden_size: width of the hidden states.
        heads: number of attention heads of each layer.
        intermediate_size: width of each feed-forward layer.
    """

    hidden_size: int
    heads: int
    intermediate_size: int

    @classmethod
    def from_config(cls, config: PreTrainedConfig) -> "Widths":
        """Return the widths that a configuration describes."""
        family = find_family(config)
        assert family is not None
        feed_forward = getattr(config, family.feed_forward_size)
        return cls(config.hidden_size, config.num_attention_heads, feed_forward)


def check_family(config: PreTrainedConfig) -> None:
    """Raise a ``UserError`` for a family whose weights have unknown axes."""
    if family_name(config) not in NARROWABLE:
        raise UserError(
            f"student.hidden_size, heads and intermediate_size narrow {', '.join(NARROWABLE)}, the "
            f"teacher is {config.model_type}"
        )


def check_widths(config: PreTrainedConfig, widths: Widths) -> None:
    """Raise a ``UserError`` for widths that the family cannot have."""
    if family_name(config) not in COMPACT and _has_uneven_heads(config, widths):
        size = head_size(config)
        raise UserError(
            f"student.heads={widths.heads}: the heads of {config.model_type}, {size} wide each, "
            f"must add up to its hidden size: heads={widths.hidden_size // size} with "
            f"hidden_size={widths.hidden_size // size * size}"
        )
    embedding = getattr(config, "embedding_size", config.hidden_size)
    if embedding != config.hidden_size and widths.hidden_size == embedding:
        raise UserError(
            f"student.hidden_size={embedding} is the width of the teacher's embeddings, where "
            f"{config.model_type} has no projection between the two: choose another"
        )


def narrow_model(model: PreTrainedModel, widths: Widths, importance: Importance) -> PreTrainedModel:
    """Return a model of these widths with the most important units of ``model``.

    The same hidden units are kept in embeddings, all layers and the head. Each layer keeps its own
    heads and feed-forward units. The width of a head does not change.

    The importance ``magnitude`` is: of a head, the norm of its linear map of the hidden states,
    ``W_o W_v``; of a feed-forward unit, the product of the norms of its input and output weights;
    of a hidden unit, the sum over all weights of the norm of its slice, divided by the mean of
    these norms. (DynaBERT, Hou et al. 2020, and Michel et al. 2019 narrow width and heads by
    gradients on data; this uses the weights alone.) ``first`` keeps the first units.
    """
    check_widths(model.config, widths)
    weights = model.state_dict()
    axes = {key: _kept_axes(key, model) for key in weights}
    teacher, size = Widths.from_config(model.config), head_size(model.config)
    stack = layer_stack(model)
    hidden = _select_units(
        _hidden_scores(weights, axes), widths.hidden_size, teacher.hidden_size, importance
    )
    kept: list[dict[str, Tensor]] = []
    for index in range(len(stack.layers)):
        layer = {k: t for k, t in weights.items() if k.startswith(f"{stack.path}.{index}.")}
        heads = _select_units(_head_scores(layer, size), widths.heads, teacher.heads, importance)
        units = _select_units(
            _unit_scores(layer, axes),
            widths.intermediate_size,
            teacher.intermediate_size,
            importance,
        )
        head_units = (heads[:, None] * size + torch.arange(size)).flatten()
        kept.append({"a": head_units, "f": units})
    result = uninitialized_model(model, widths)
    layer_name = re.compile(rf"^{re.escape(stack.path)}\.(\d+)\.")
    narrowed = {}
    for key, tensor in weights.items():
        match = layer_name.match(key)
        indices = {"h": hidden} | (kept[int(match[1])] if match else {})
        for axis, kind in enumerate(axes[key]):
            if kind != "-":
                tensor = tensor.index_select(axis, indices[kind])
        narrowed[key] = tensor
    result.load_state_dict(narrowed)
    return result


def uninitialized_model(model: PreTrainedModel, widths: Widths) -> PreTrainedModel:
    """Return a model of these widths, of the family's class if that supports them."""
    config = model.config
    family = find_family(config)
    assert family is not None
    changes = {
        "hidden_size": widths.hidden_size,
        "num_attention_heads": widths.heads,
        family.feed_forward_size: widths.intermediate_size,
    }
    if getattr(config, "embedding_size", None) == config.hidden_size:
        changes["embedding_size"] = widths.hidden_size
    if _has_uneven_heads(config, widths) or config.model_type != family_name(config):
        return as_compact(
            config, head_name(model), attention_head_size=head_size(config), **changes
        )
    config = copy.deepcopy(config)
    for key, value in changes.items():
        setattr(config, key, value)
    return type(model)(config).float()


def _has_uneven_heads(config: PreTrainedConfig, widths: Widths) -> bool:
    """Return whether the heads do not add up to the hidden size, as the families' classes need."""
    return widths.heads * head_size(config) != widths.hidden_size


def _kept_axes(key: str, model: PreTrainedModel) -> str:
    axes = next((axes for pattern, axes in WEIGHT_AXES if pattern.search(key)), None)
    if axes is None:
        raise UserError(f"the teacher's weight {key} is unknown: it cannot be narrowed")
    # Embeddings of another width than the hidden states keep it.
    config = model.config
    differs = getattr(config, "embedding_size", config.hidden_size) != config.hidden_size
    return axes.replace("e", "-" if differs else "h")


def _select_units(scores: Tensor, count: int, total: int, importance: Importance) -> Tensor:
    """Return the ascending indices of the highest scores; of equal scores the first."""
    assert len(scores) == total
    if importance == "first":
        return torch.arange(count)
    return scores.argsort(descending=True, stable=True)[:count].sort().values


def _hidden_scores(weights: dict[str, Tensor], axes: dict[str, str]) -> Tensor:
    total: Tensor | float = 0.0
    for key, tensor in weights.items():
        for axis, kind in enumerate(axes[key]):
            if kind == "h":
                norms = tensor.double().movedim(axis, 0).reshape(tensor.shape[axis], -1).norm(dim=1)
                total = total + norms / norms.mean().clamp(min=1e-12)
    assert isinstance(total, Tensor)
    return total


def _head_scores(weights: dict[str, Tensor], size: int) -> Tensor:
    value = next(tensor for key, tensor in weights.items() if VALUE_WEIGHT.search(key)).double()
    output = next(
        tensor for key, tensor in weights.items() if ATTENTION_OUTPUT_WEIGHT.search(key)
    ).double()
    heads = zip(value.split(size), output.split(size, dim=1), strict=True)
    return torch.stack([(w_o @ w_v).norm() for w_v, w_o in heads])


def _unit_scores(weights: dict[str, Tensor], axes: dict[str, str]) -> Tensor:
    inputs = next(tensor for key, tensor in weights.items() if axes[key] == "fh").double()
    outputs = next(tensor for key, tensor in weights.items() if axes[key] == "hf").double()
    return inputs.norm(dim=1) * outputs.norm(dim=0)
