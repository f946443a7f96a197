"""What the objective sees of a model: logits, hidden states, and states of attention.

Queries, keys and values are captured at the layers' own projections. Attention thus needs no eager
kernel, costs nothing but memory, and scores and maps are computed only for the layers that a term
looks at.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.core.errors import UserError
from distill.modeling.families import attention_projections
from distill.modeling.forward import forward_at_positions
from distill.modeling.inputs import MASK
from distill.modeling.needs import Need
from distill.modeling.precision import attention_scores

__all__ = ["AttentionStates", "ModelOutputs", "attention_projections", "forward_with_features"]


@dataclass
class AttentionStates:
    """Self-attention of one layer, ``(N, H, L, d)`` each."""

    queries: Tensor
    keys: Tensor
    values: Tensor

    @property
    def scores(self) -> Tensor:
        """Scores before the softmax, ``(N, H, L, L)``; padded keys are not masked yet."""
        return attention_scores(self.queries, self.keys)


@dataclass
class ModelOutputs:
    """Outputs of one model on one batch.

    Attributes:
        logits: ``(N, C)``, or a row for each position that the head reads; in training as the
            task's criterion arranges them.
        hidden_states: output of the embeddings and of each layer, ``(N, L, D)``, if needed.
        attention: of each layer, if needed.
        mask: which tokens exist, ``(N, L)``; ``None`` for cached logits and inputs without a mask.
        stacks: hidden states by stack (``encoder``, ``decoder``) of a model with several.
        members: of an ensemble, the outputs of each teacher by name.
        averaged: of an ensemble whose probabilities are averaged, the weight of each member.
        by_class: whether each class is a decision of its own (sigmoid), for that average.
    """

    logits: Tensor
    hidden_states: tuple[Tensor, ...] | None = None
    attention: tuple[AttentionStates, ...] | None = None
    mask: Tensor | None = None
    stacks: Mapping[str, tuple[Tensor, ...]] = field(default_factory=dict)
    members: Mapping[str, "ModelOutputs"] = field(default_factory=dict)
    averaged: Mapping[str, float] = field(default_factory=dict)
    by_class: bool = False

    def for_teacher(self, member: str | None) -> "ModelOutputs":
        """Return the outputs of a member of an ensemble; its own without a name."""
        return self if member is None else self.members[member]

    def states_of(self, stack: str | None = None) -> tuple[Tensor, ...]:
        """Return the hidden states of a stack, or of the only one."""
        states = self.hidden_states if stack is None else self.stacks.get(stack)
        assert states is not None, "the objective says what it needs before the forward pass"
        return states

    def logits_at(self, temperature: float | Tensor) -> Tensor:
        r"""Logits ``(N, C)`` whose softmax at this temperature is the distribution to learn.

        For a single model its own logits. Where an ensemble's probabilities are averaged, the mean
        is taken of the softened ones (Hinton et al. 2015, section 1: the arithmetic mean of the
        predictive distributions): :math:`T \log \sum_k w_k \mathrm{softmax}(z_k / T)`, or where
        each class is a decision of its own, the logit of :math:`\sum_k w_k \sigma(z_k / T)`, times
        T.
        """
        if not self.averaged:
            return self.logits
        softened = {
            name: self.members[name].logits.detach().float() / temperature for name in self.averaged
        }

        def log_mean(log: Callable[[Tensor], Tensor]) -> Tensor:
            """Logarithm of the weighted mean of probabilities, given their logarithm."""
            terms = [log(softened[name]) + math.log(w) for name, w in self.averaged.items()]
            return torch.logsumexp(torch.stack(terms), 0)

        if self.by_class:
            return temperature * (log_mean(F.logsigmoid) - log_mean(lambda z: F.logsigmoid(-z)))
        return temperature * log_mean(lambda z: F.log_softmax(z, -1))


def forward_with_features(
    model: nn.Module, inputs: Mapping[str, Tensor], needs: Iterable[str]
) -> ModelOutputs:
    """Run one forward pass and return what the objective needs of it.

    Args:
        model: a transformers model with a head, or an ensemble.
        inputs: the model's inputs.
        needs: see :class:`~distill.modeling.needs.Need`.

    Raises:
        UserError: if its attention cannot be captured.
    """
    if hasattr(model, "outputs"):  # an ensemble
        return model.outputs(inputs, needs)
    needs, mask = set(needs), inputs.get(MASK)
    if not needs & {Need.HIDDEN_STATES, Need.ATTENTION}:
        return ModelOutputs(forward_at_positions(model, inputs).logits, mask=mask)
    settings = {"output_hidden_states": True} if Need.HIDDEN_STATES in needs else {}
    if Need.ATTENTION not in needs:
        result = forward_at_positions(model, inputs, full_sequence=True, **settings)
        hidden, stacks = _hidden_states(result, model)
        return ModelOutputs(result.logits, hidden, mask=mask, stacks=stacks)
    with _ProjectionHooks(model) as hooks:
        result = forward_at_positions(model, inputs, full_sequence=True, **settings)
    hidden, stacks = _hidden_states(result, model) if settings else (None, {})
    return ModelOutputs(result.logits, hidden, hooks.attention(), mask, stacks)


class _ProjectionHooks:
    """Captures the output of every layer's projections during one forward pass."""

    def __init__(self, model: nn.Module):
        self.heads = model.config.num_attention_heads
        self.layers = attention_projections(model)
        self.captured: list[dict[str, Tensor]] = [{} for _ in self.layers]
        self.handles: list[Any] = []

    def __enter__(self) -> "_ProjectionHooks":
        for modules, captured in zip(self.layers, self.captured, strict=True):
            for kind, module in modules.items():
                self.handles.append(module.register_forward_hook(self._capture(captured, kind)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()

    def _capture(self, captured: dict[str, Tensor], kind: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> None:
            captured[kind] = output

        return hook

    def attention(self) -> tuple[AttentionStates, ...]:
        assert all(len(captured) == 3 for captured in self.captured), "no attention was captured"
        return tuple(
            AttentionStates(**{kind: self._by_head(value) for kind, value in captured.items()})
            for captured in self.captured
        )

    def _by_head(self, projected: Tensor) -> Tensor:
        count, length, _ = projected.shape
        return projected.view(count, length, self.heads, -1).transpose(1, 2)


def _hidden_states(
    result: Any, model: nn.Module
) -> tuple[tuple[Tensor, ...] | None, dict[str, tuple[Tensor, ...]]]:
    """Return the hidden states of the only stack, or of each of several by name."""
    stacks = {
        name: tuple(states)
        for name in ("encoder", "decoder")
        if (states := getattr(result, f"{name}_hidden_states", None))
    }
    hidden = getattr(result, "hidden_states", None)
    if not hidden and not stacks:
        raise UserError(f"{type(model).__name__} gives no hidden states to compare")
    return (tuple(hidden) if hidden else None), stacks
