"""A narrower copy of a transformer: fewer hidden units, heads and feed-forward units."""

import copy
import re
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from distill.core.errors import UserError
from distill.modeling.compact import COMPACT, as_compact, head_name, head_size
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
    """How wide a transformer is.

    Attributes:
        hidden_size: of the stream that all layers add to.
        heads: of each layer.
        intermediate_size: of each feed-forward layer.
    """

    hidden_size: int
    heads: int
    intermediate_size: int

    @classmethod
    def of(cls, config: PretrainedConfig) -> "Widths":
        """A model's own."""
        family = find_family(config)
        assert family is not None
        feed_forward = getattr(config, family.feed_forward_size)
        return cls(config.hidden_size, config.num_attention_heads, feed_forward)


def check_family(config: PretrainedConfig) -> None:
    """Refuse a model whose weights' axes are unknown.

    Raises:
        UserError: naming those that are known.
    """
    if family_name(config) not in NARROWABLE:
        raise UserError(
            f"student.hidden_size, heads and intermediate_size narrow {', '.join(NARROWABLE)}, the "
            f"teacher is {config.model_type}"
        )


def check(config: PretrainedConfig, widths: Widths) -> None:
    """Refuse widths that the family cannot have.

    Raises:
        UserError: saying why.
    """
    if family_name(config) not in COMPACT and _has_uneven_heads(config, widths):
        size = head_size(config)
        raise UserError(
            f"student.heads={widths.heads}: {config.model_type} can have only as many heads of "
            f"{size} as make up its hidden size: heads={widths.hidden_size // size} with "
            f"hidden_size={widths.hidden_size // size * size}"
        )
    embedding = getattr(config, "embedding_size", config.hidden_size)
    if embedding != config.hidden_size and widths.hidden_size == embedding:
        raise UserError(
            f"student.hidden_size={embedding} is the width of the teacher's embeddings, where "
            f"{config.model_type} has no projection between the two: take another"
        )


def narrow_model(model: PreTrainedModel, widths: Widths, importance: Importance) -> PreTrainedModel:
    """A model of these widths with the units of ``model`` that matter most.

    The same hidden units are kept everywhere: in embeddings, in all layers, in the head. Each layer
    keeps its own heads and feed-forward units. Heads keep their width.

    What matters, ``magnitude``: of a head, the norm of what it maps the stream to, ``W_o W_v``; of
    a feed-forward unit, the norms of its weights in and out, multiplied; of a hidden unit, the sum
    over all weights of the norm of its part, each in units of that weight's mean. (Width and heads
    are what DynaBERT, Hou et al. 2020, and Michel et al. 2019 narrow; they rank by gradients on
    data, this by the weights alone.) ``first`` keeps the first of each.
    """
    check(model.config, widths)
    weights = model.state_dict()
    axes = {key: _kept_axes(key, model) for key in weights}
    ours, size = Widths.of(model.config), head_size(model.config)
    stack = layer_stack(model)
    name = stack.path
    hidden = _select_units(
        _hidden_scores(weights, axes), widths.hidden_size, ours.hidden_size, importance
    )
    kept: list[dict[str, Tensor]] = []
    for index in range(len(stack.layers)):
        inside = {k: t for k, t in weights.items() if k.startswith(f"{name}.{index}.")}
        heads = _select_units(_head_scores(inside, size), widths.heads, ours.heads, importance)
        units = _select_units(
            _unit_scores(inside, axes), widths.intermediate_size, ours.intermediate_size, importance
        )
        inner = (heads[:, None] * size + torch.arange(size)).flatten()
        kept.append({"a": inner, "f": units})
    result = model_class_for(model, widths)
    layer = re.compile(rf"^{re.escape(name)}\.(\d+)\.")
    narrow = {}
    for key, tensor in weights.items():
        match = layer.match(key)
        indices = {"h": hidden} | (kept[int(match[1])] if match else {})
        for axis, kind in enumerate(axes[key]):
            if kind != "-":
                tensor = tensor.index_select(axis, indices[kind])
        narrow[key] = tensor
    result.load_state_dict(narrow)
    return result


def model_class_for(model: PreTrainedModel, widths: Widths) -> PreTrainedModel:
    """An empty model of these widths: the family's own class where it can have them."""
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
    return type(model)(config).to(torch.float32)


def _has_uneven_heads(config: PretrainedConfig, widths: Widths) -> bool:
    """Whether the heads do not make up the hidden size, as the families' own classes ask."""
    return widths.heads * head_size(config) != widths.hidden_size


def _kept_axes(key: str, model: PreTrainedModel) -> str:
    axes = next((axes for pattern, axes in WEIGHT_AXES if pattern.search(key)), None)
    if axes is None:
        raise UserError(f"the teacher's weight {key} is unknown: it cannot be narrowed")
    # Where embeddings have a width of their own, it stays.
    config = model.config
    apart = getattr(config, "embedding_size", config.hidden_size) != config.hidden_size
    return axes.replace("e", "-" if apart else "h")


def _select_units(scores: Tensor, count: int, total: int, importance: Importance) -> Tensor:
    """The indices of the highest scores in their own order; the first of equal ones."""
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
    pairs = zip(value.split(size), output.split(size, dim=1), strict=True)
    return torch.stack([(out @ into).norm() for into, out in pairs])


def _unit_scores(weights: dict[str, Tensor], axes: dict[str, str]) -> Tensor:
    into = next(tensor for key, tensor in weights.items() if axes[key] == "fh").double()
    out = next(tensor for key, tensor in weights.items() if axes[key] == "hf").double()
    return into.norm(dim=1) * out.norm(dim=0)
