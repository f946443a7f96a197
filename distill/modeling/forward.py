"""Forward passes that compute what the head reads, and no more.

A head reads few of the last layer's hidden states: a classifier the first token's, a tagger those
of the words' first pieces, a masked language model the masked ones. The last layer's queries, its
feed-forward half and the head are therefore computed for these positions alone; keys and values
for all. The result is that of the whole layer, up to rounding, at 2 to 4 of its 12 parts of work;
and a language model's logits never exist for tokens that nobody asks about.
"""

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.utils import ModelOutput

from distill.modeling.architectures import PREFIX
from distill.modeling.loading import call_model, layer_stack

# Architectures whose layers are known: attention, residual and feed-forward of each token alone.
FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert")
# How these call the three projections of self-attention.
PROJECTIONS = (("query", "key", "value"), ("q_lin", "k_lin", "v_lin"))
TEXT_HEAD = "ForSequenceClassification"


def forward_at_positions(
    model: nn.Module, inputs: Mapping[str, Tensor], full_sequence: bool = False, **settings
):
    """Run a model on a batch, its head on those positions only that count.

    Args:
        model: a transformers model with a head.
        inputs: ``input_ids`` ``(B, L)`` and what else it takes. Where ``positions`` ``(B, P)`` is
            among them, these tokens of each example are read, -1 filling up; U in all.
        full_sequence: compute the last layer for every token, for terms that look at it.
        **settings: of the model's forward pass.

    Returns:
        The model's output. With positions its logits are ``(U, C)``: example by example, in the
        order of the positions; of a model with start and end logits these are the two columns.
    """
    if hasattr(model, "outputs"):  # an ensemble
        return ModelOutput(logits=model.outputs(inputs, (), draws=False).logits)
    positions = inputs.get("positions")
    with ExitStack() as stack:
        if positions is None:
            if not full_sequence and _head_reads_first_token(model):
                first = inputs["input_ids"].new_zeros((len(inputs["input_ids"]), 1))
                stack.enter_context(_last_layer_at(model, first))
            return call_model(model, inputs, **settings)
        rows, columns = (positions >= 0).nonzero(as_tuple=True)
        chosen = positions[rows, columns]
        if not full_sequence and _has_known_layers(model):
            stack.enter_context(_last_layer_at(model, positions.clamp(min=0)))
            chosen = columns
        hook = model.base_model.register_forward_hook(_gather_hidden_states(rows, chosen))
        stack.callback(hook.remove)
        result = call_model(model, inputs, **settings)
    result.logits = output_logits(result).squeeze(0)
    return result


def output_logits(result) -> Tensor:
    """The logits of a model's output; start and end stand in the last axis."""
    if "logits" in result:
        return result.logits
    return torch.stack((result.start_logits, result.end_logits), -1)


def _gather_hidden_states(rows: Tensor, columns: Tensor) -> Callable:
    """A hook that leaves ``(1, U, D)`` of the base model's last hidden states."""

    def hook(module: nn.Module, arguments: tuple, output):
        output.last_hidden_state = output.last_hidden_state[rows, columns].unsqueeze(0)
        return output

    return hook


def _has_known_layers(model: nn.Module) -> bool:
    """Whether its layers are those of a family, by transformers' code or this program's."""
    config = model.config
    return (
        config.model_type.removeprefix(PREFIX) in FAMILIES
        and type(model).__module__.split(".")[0] in ("transformers", "distill")
        and not getattr(config, "is_decoder", False)
        and config._attn_implementation in ("sdpa", "eager")
    )


def _head_reads_first_token(model: nn.Module) -> bool:
    return _has_known_layers(model) and type(model).__name__.endswith(TEXT_HEAD)


@contextmanager
def _last_layer_at(model: nn.Module, positions: Tensor) -> Iterator[None]:
    """For one forward pass: the last layer takes ``(B, L, D)`` and gives ``(B, P, D)``.

    Its attention looks from the positions ``(B, P)`` at all tokens.
    """
    layer, attention = _last_layer(model)
    seen: list[Tensor] = []

    def choose(module: nn.Module, arguments: tuple):
        hidden, *others = arguments
        seen.append(hidden)
        index = positions.unsqueeze(-1).expand(-1, -1, hidden.shape[-1])
        return hidden.gather(1, index), *others

    def attend(hidden_states: Tensor, attention_mask: Tensor | None = None, *_, **__):
        return _attend(attention, hidden_states, seen.pop(), attention_mask), None

    hook = layer.register_forward_pre_hook(choose)
    attention.forward = attend
    try:
        yield
    finally:
        hook.remove()
        del attention.forward  # the class's own is found again


def _last_layer(model: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The last layer and in it the module that holds the projections."""
    if model not in _LAST_LAYERS:  # walking through all modules takes as long as a small layer
        layer = layer_stack(model)[1][-1]
        holders = (
            module
            for module in layer.modules()
            if any(hasattr(module, query) for query, _, _ in PROJECTIONS)
        )
        _LAST_LAYERS[model] = weakref.ref(layer), weakref.ref(next(holders))
    layer, attention = (kept() for kept in _LAST_LAYERS[model])
    assert layer is not None and attention is not None
    return layer, attention


_LAST_LAYERS: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def _attend(module: nn.Module, states: Tensor, tokens: Tensor, mask: Tensor | None) -> Tensor:
    """Self-attention of some states ``(B, P, D)`` over all tokens ``(B, L, D)``: ``(B, P, D)``."""
    names = next(names for names in PROJECTIONS if hasattr(module, names[0]))
    size = module.attention_head_size
    query, key, value = (
        getattr(module, name)(what).unflatten(-1, (-1, size)).transpose(1, 2)
        for name, what in zip(names, (states, tokens, tokens), strict=True)
    )
    if mask is not None:
        mask = mask[:, :, :1]  # the same for every query: it hides padding
    dropout = module.dropout.p if module.training else 0.0
    attended = F.scaled_dot_product_attention(
        query, key, value, mask, dropout, scale=module.scaling
    )
    attended = attended.transpose(1, 2).flatten(2)
    return module.out_lin(attended) if hasattr(module, "out_lin") else attended
