"""What the objective sees of a model: logits, hidden states, and attention from the inside.

Queries, keys and values are taken where they arise, in the layer's own projections. So attention
needs no eager kernel, costs nothing but memory, and scores and maps are made only for the layers
that a term looks at.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.core.errors import UserError
from distill.modeling.forward import forward_at_positions
from distill.modeling.loading import layer_stack
from distill.modeling.precision import attention_scores

# How architectures call the three projections of self-attention.
PROJECTIONS = {
    "queries": ("query", "q_lin", "q_proj"),
    "keys": ("key", "k_lin", "k_proj"),
    "values": ("value", "v_lin", "v_proj"),
}


@dataclass
class AttentionStates:
    """One layer's self-attention, ``(N, H, L, d)`` each."""

    queries: Tensor
    keys: Tensor
    values: Tensor

    @property
    def scores(self) -> Tensor:
        """Before the softmax, ``(N, H, L, L)``; padded keys are not masked yet."""
        return attention_scores(self.queries, self.keys)


@dataclass
class ModelOutputs:
    """One model on one batch.

    Attributes:
        logits: ``(N, C)``; of a token-level task a row for each unit, or as its ``arrange`` says.
        hidden_states: the embeddings' output and each layer's, ``(N, L, D)``, if asked for.
        attention: each layer's, if asked for.
        mask: which tokens exist, ``(N, L)``; where the logits come from the cache, ``None``.
        members: of an ensemble, each teacher's own, by name.
        averaged: of an ensemble whose probabilities are averaged: each member's weight.
        by_class: whether each class is a yes or no of its own (the sigmoid's), as that mean needs
            to know.
    """

    logits: Tensor
    hidden_states: tuple[Tensor, ...] | None = None
    attention: tuple[AttentionStates, ...] | None = None
    mask: Tensor | None = None
    members: Mapping[str, "ModelOutputs"] = field(default_factory=dict)
    averaged: Mapping[str, float] = field(default_factory=dict)
    by_class: bool = False

    def for_teacher(self, member: str | None) -> "ModelOutputs":
        """A member of an ensemble by its name; itself without one."""
        return self if member is None else self.members[member]

    def logits_at(self, temperature: float | Tensor) -> Tensor:
        r"""Logits ``(N, C)`` whose softmax at this temperature is the distribution to learn.

        For a single model its own logits. Where an ensemble's probabilities are averaged, the mean
        is taken of the softened ones (Hinton et al. 2015, section 1: the arithmetic mean of the
        predictive distributions): :math:`T \log \sum_k w_k \mathrm{softmax}(z_k / T)`, or where
        each class is a yes or no, the logit of :math:`\sum_k w_k \sigma(z_k / T)`, times T.
        """
        if not self.averaged:
            return self.logits
        softened = {
            name: self.members[name].logits.detach().float() / temperature for name in self.averaged
        }

        def mean(log: Callable[[Tensor], Tensor]) -> Tensor:
            """The logarithm of the weighted mean of what ``log`` is the logarithm of."""
            each = [log(softened[name]) + math.log(w) for name, w in self.averaged.items()]
            return torch.logsumexp(torch.stack(each), 0)

        if self.by_class:
            return temperature * (mean(F.logsigmoid) - mean(lambda z: F.logsigmoid(-z)))
        return temperature * mean(lambda z: F.log_softmax(z, -1))


def forward_with_features(
    model: nn.Module, inputs: Mapping[str, Tensor], needs: Iterable[str]
) -> ModelOutputs:
    """One forward pass, with what the objective needs of it.

    Args:
        model: a transformers model with a head.
        inputs: ``input_ids`` ``(N, L)`` and what else it takes.
        needs: any of ``logits``, ``hidden_states``, ``attention``.

    Raises:
        UserError: if its attention cannot be taken.
    """
    if hasattr(model, "outputs"):  # an ensemble
        return model.outputs(inputs, needs)
    needs, mask = set(needs), inputs["attention_mask"]
    if not needs & {"hidden_states", "attention"}:
        return ModelOutputs(forward_at_positions(model, inputs).logits, mask=mask)
    settings = {"output_hidden_states": True} if "hidden_states" in needs else {}
    if "attention" not in needs:
        result = forward_at_positions(model, inputs, full_sequence=True, **settings)
        return ModelOutputs(
            result.logits, _require_hidden_states(result.hidden_states, model), mask=mask
        )
    with _ProjectionHooks(model) as taps:
        result = forward_at_positions(model, inputs, full_sequence=True, **settings)
    hidden = _require_hidden_states(result.hidden_states, model) if settings else None
    return ModelOutputs(result.logits, hidden, taps.attention(), mask)


def attention_projections(model: nn.Module) -> list[dict[str, nn.Module]]:
    """The query, key and value projection of each layer.

    Raises:
        UserError: if a layer has not exactly one of each, or attention depends on more than them.
    """
    name = type(model).__name__
    if getattr(model.config, "rope_parameters", None) or getattr(model.config, "rope_theta", None):
        raise UserError(f"{name}: its attention rotates queries and keys, which is not supported")
    if getattr(model.config, "is_decoder", False) or any(
        getattr(module, "is_causal", False) for module in model.modules()
    ):
        raise UserError(f"{name}: it hides what comes later from attention: not supported")
    found = []
    for layer in layer_stack(model)[1]:
        leaves = [(path.rsplit(".", 1)[-1], module) for path, module in layer.named_modules()]
        by_kind = {
            kind: [module for leaf, module in leaves if leaf in names]
            for kind, names in PROJECTIONS.items()
        }
        if any(len(modules) != 1 for modules in by_kind.values()):
            raise UserError(
                f"{name}: its queries, keys and values cannot be told, so no term can look at "
                "its attention"
            )
        found.append({kind: modules[0] for kind, modules in by_kind.items()})
    return found


class _ProjectionHooks:
    """Listens to every layer's projections during one forward pass."""

    def __init__(self, model: nn.Module):
        self.model, self.heads = model, model.config.num_attention_heads
        self.layers = attention_projections(model)
        self.caught: list[dict[str, Tensor]] = [{} for _ in self.layers]
        self.handles: list = []

    def __enter__(self) -> "_ProjectionHooks":
        for modules, caught in zip(self.layers, self.caught, strict=True):
            for kind, module in modules.items():
                self.handles.append(module.register_forward_hook(self._catch(caught, kind)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()

    def _catch(self, caught: dict[str, Tensor], kind: str):
        def hook(_module: nn.Module, _inputs: tuple, output: Tensor) -> None:
            caught[kind] = output

        return hook

    def attention(self) -> tuple[AttentionStates, ...]:
        assert all(len(caught) == 3 for caught in self.caught), "no attention was captured"
        return tuple(
            AttentionStates(**{kind: self._by_head(value) for kind, value in caught.items()})
            for caught in self.caught
        )

    def _by_head(self, projected: Tensor) -> Tensor:
        count, length, _ = projected.shape
        return projected.view(count, length, self.heads, -1).transpose(1, 2)


def _require_hidden_states(
    hidden_states: tuple[Tensor, ...] | None, model: nn.Module
) -> tuple[Tensor, ...]:
    if not hidden_states:
        raise UserError(f"{type(model).__name__} gives no hidden states to compare")
    return tuple(hidden_states)
