"""Forward passes that compute only what the head reads.

A head reads few of the last layer's hidden states: a classifier the first token's, a tagger those
of the words' first tokens, a masked language model the masked ones. The last layer's queries, its
feed-forward half and the head are therefore computed at these positions alone; keys and values at
all. The result is that of the whole layer, up to rounding, for a sixth to a third of its work; a
language model's logits are never computed for tokens that are not needed.
"""

import logging
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from distill.modeling.families import Projections, config_of, find_family, layer_stack
from distill.modeling.head_rows import WHOLE_LOGITS, HeadRows
from distill.modeling.inputs import POSITIONS, batch_size
from distill.modeling.loading import call_model
from distill.modeling.outputs import CombinedModel

log = logging.getLogger(__name__)

# End of the class names of models whose head reads the first token only.
FIRST_TOKEN_HEAD = "ForSequenceClassification"


def forward_at_positions(
    model: nn.Module, inputs: Mapping[str, Tensor], full_sequence: bool = False, **settings: Any
) -> Any:
    """Run a model on a batch, with its head at the requested positions only.

    Args:
        model: a transformers model with a head, or an ensemble of them.
        inputs: the model's inputs. With ``positions`` ``(B, P)`` among them, logits are computed at
            these tokens of each example, -1 being padding; U in all.
        full_sequence: whether to compute the last layer at every token, for terms that look at it.
        **settings: arguments of the model's forward pass.

    Returns:
        The model's output. With positions its logits are ``(U, C)``: example by example, in the
        order of the positions; start and end logits are its two columns.
    """
    if isinstance(model, CombinedModel):
        return ModelOutput(logits=model.outputs(inputs, (), draws=False).logits)
    positions = inputs.get(POSITIONS)
    with ExitStack() as stack:
        if positions is None:
            if not full_sequence and _head_reads_first_token(model):
                device = next(iter(inputs.values())).device
                first = torch.zeros((batch_size(inputs), 1), dtype=torch.long, device=device)
                stack.enter_context(_last_layer_at(model, first))
            return call_model(model, inputs, **settings)
        rows, columns = (positions >= 0).nonzero(as_tuple=True)
        indices = positions[rows, columns]
        if not full_sequence and _splits_last_layer(model):
            stack.enter_context(_last_layer_at(model, positions.clamp(min=0)))
            indices = columns
        base_model = cast(PreTrainedModel, model).base_model
        hook = base_model.register_forward_hook(_gather_hidden_states(rows, indices))
        stack.callback(hook.remove)
        result = call_model(model, inputs, **settings)
    result.logits = output_logits(result).squeeze(0)
    return result


def forward_to_rows(
    model: nn.Module, inputs: Mapping[str, Tensor], **settings: Any
) -> tuple[Any, HeadRows | None]:
    """Run a model on a batch; leave out its output layer where the logits are too many.

    Args:
        model: a transformers model with a head, or an ensemble of them.
        inputs: the model's inputs, with ``positions``.
        **settings: see :func:`forward_at_positions`.

    Returns:
        The model's output and ``None``; or, for more than ``WHOLE_LOGITS`` logits of a model that
        returns the output layer's product as it is, an output whose logits are a placeholder, and
        the rows that they can be computed from.
    """
    layer = _plain_output_layer(model, inputs)
    if layer is None:
        return forward_at_positions(model, inputs, **settings), None
    passed: list[Tensor] = []

    def keep(states: Tensor) -> Tensor:
        passed.append(states)
        return states

    layer.forward = keep  # type: ignore[method-assign, assignment]
    try:
        positions = inputs[POSITIONS]
        result = forward_at_positions(model, inputs, **settings)
    finally:
        del layer.forward  # back to the method of its class
    # The same memory: nothing came after the output layer but a change of shape.
    if len(passed) != 1 or result.logits.data_ptr() != passed[0].data_ptr():
        log.info(
            "%s: its logits are not those of its output layer alone, they are computed whole",
            type(model).__name__,
        )
        _CHANGED_LOGITS.add(model)
        return forward_at_positions(model, inputs, **settings), None
    rows = HeadRows(result.logits, layer.weight, layer.bias)
    assert len(rows) == int((positions >= 0).sum())
    result.logits = rows.placeholder
    return result, rows


def _plain_output_layer(model: nn.Module, inputs: Mapping[str, Tensor]) -> nn.Linear | None:
    """Return the output layer of a model that gets too many logits from it; else ``None``."""
    if POSITIONS not in inputs or isinstance(model, CombinedModel) or model in _CHANGED_LOGITS:
        return None
    layer = cast(PreTrainedModel, model).get_output_embeddings()
    if not isinstance(layer, nn.Linear) or "forward" in vars(layer):
        return None
    count = int((inputs[POSITIONS] >= 0).sum()) * layer.out_features
    return layer if count > WHOLE_LOGITS else None


# Models that change the product of their output layer, such as by a cap on logits.
_CHANGED_LOGITS: weakref.WeakSet[nn.Module] = weakref.WeakSet()


def output_logits(result: Any) -> Tensor:
    """Return the logits of a model's output; start and end logits in the last axis."""
    if "logits" in result:
        return result.logits
    return torch.stack((result.start_logits, result.end_logits), -1)


def _gather_hidden_states(rows: Tensor, columns: Tensor) -> Callable[..., Any]:
    """Return a hook that leaves ``(1, U, D)`` of the base model's last hidden states."""

    def hook(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state[rows, columns].unsqueeze(0)
        return output

    return hook


def _splits_last_layer(model: nn.Module) -> bool:
    """Return whether the last layer can be computed at some positions, and the code is known."""
    config = config_of(model)
    family = find_family(config)
    return (
        family is not None
        and type(model).__module__.split(".")[0] in ("transformers", "distill")
        and not getattr(config, "is_decoder", False)
        and config._attn_implementation in ("sdpa", "eager")
    )


def _head_reads_first_token(model: nn.Module) -> bool:
    family = find_family(config_of(model))
    return (
        family is not None
        and _splits_last_layer(model)
        and type(model).__name__.endswith(FIRST_TOKEN_HEAD)
    )


@contextmanager
def _last_layer_at(model: nn.Module, positions: Tensor) -> Iterator[None]:
    """For one forward pass, let the last layer map ``(B, L, D)`` to ``(B, P, D)``.

    Its attention attends from the positions ``(B, P)`` to all tokens.
    """
    layer, attention = _last_layer(model)
    family = find_family(config_of(model))
    assert family is not None
    all_tokens: list[Tensor] = []

    def select(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden, *remaining = arguments
        all_tokens.append(hidden)
        index = positions.unsqueeze(-1).expand(-1, -1, hidden.shape[-1])
        return hidden.gather(1, index), *remaining

    def attend(
        hidden_states: Tensor, attention_mask: Tensor | None = None, *_: Any, **__: Any
    ) -> tuple[Tensor, None]:
        tokens = all_tokens.pop()
        return _attend(attention, family.projections, hidden_states, tokens, attention_mask), None

    hook = layer.register_forward_pre_hook(select)
    attention.forward = attend
    try:
        yield
    finally:
        hook.remove()
        del attention.forward  # back to the method of its class


def _last_layer(model: nn.Module) -> tuple[nn.Module, Any]:
    """Return the last layer and in it the module that holds the projections."""
    if model not in _LAST_LAYERS:  # walking through all modules takes as long as a small layer
        layer = layer_stack(model).layers[-1]
        family = find_family(config_of(model))
        assert family is not None
        holder = next(
            module for module in layer.modules() if hasattr(module, family.projections.query)
        )
        _LAST_LAYERS[model] = weakref.ref(layer), weakref.ref(holder)
    layer, attention = (reference() for reference in _LAST_LAYERS[model])
    assert layer is not None and attention is not None
    return layer, attention


_LAST_LAYERS: weakref.WeakKeyDictionary[nn.Module, tuple[Any, Any]] = weakref.WeakKeyDictionary()


def _attend(
    module: Any, projections: Projections, states: Tensor, tokens: Tensor, mask: Tensor | None
) -> Tensor:
    """Self-attention of some states ``(B, P, D)`` over all tokens ``(B, L, D)``: ``(B, P, D)``."""
    size = module.attention_head_size
    query, key, value = (
        getattr(module, name)(hidden).unflatten(-1, (-1, size)).transpose(1, 2)
        for name, hidden in (
            (projections.query, states),
            (projections.key, tokens),
            (projections.value, tokens),
        )
    )
    if mask is not None:
        mask = mask[:, :, :1]  # equal for every query: it hides padding
    dropout = module.dropout.p if module.training else 0.0
    attended = F.scaled_dot_product_attention(
        query, key, value, mask, dropout, scale=module.scaling
    )
    attended = attended.transpose(1, 2).flatten(2)
    return module.out_lin(attended) if hasattr(module, "out_lin") else attended
