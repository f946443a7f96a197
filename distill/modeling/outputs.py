"""Outputs of a model that loss terms compare, and models that combine those of several."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.modeling.head_rows import HeadRows
from distill.modeling.precision import attention_scores


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
        feature_maps: maps ``(N, C, H, W)`` of a convolutional network by ``strideN``, if needed.
        members: of an ensemble, the outputs of each teacher by name.
        averaged: of an ensemble whose probabilities are averaged, the weight of each member.
        by_class: whether each class is a decision of its own (sigmoid), for that average.
        head_rows: what the logits can be computed from, where they are too many to exist whole;
            ``logits`` is then a placeholder without numbers.
    """

    logits: Tensor
    hidden_states: tuple[Tensor, ...] | None = None
    attention: tuple[AttentionStates, ...] | None = None
    mask: Tensor | None = None
    stacks: Mapping[str, tuple[Tensor, ...]] = field(default_factory=dict)
    feature_maps: Mapping[str, Tensor] = field(default_factory=dict)
    members: Mapping[str, "ModelOutputs"] = field(default_factory=dict)
    averaged: Mapping[str, float] = field(default_factory=dict)
    by_class: bool = False
    head_rows: HeadRows | None = None

    def at_rows(self, rows: slice) -> "ModelOutputs":
        """Return the logits of some rows, of an ensemble those of each member as well."""
        if self.head_rows is not None:
            return ModelOutputs(self.head_rows.logits(rows))
        members = {name: member.at_rows(rows) for name, member in self.members.items()}
        return ModelOutputs(
            self.logits[rows], members=members, averaged=self.averaged, by_class=self.by_class
        )

    def for_teacher(self, member: str | None) -> "ModelOutputs":
        """Return the outputs of a member of an ensemble; its own without a name."""
        return self if member is None else self.members[member]

    def states_of(self, stack: str | None = None) -> tuple[Tensor, ...]:
        """Return the hidden states of a stack, or of the only one."""
        states = self.hidden_states if stack is None else self.stacks.get(stack)
        assert states is not None, "the objective says what it needs before the forward pass"
        return states

    def logits_at(self, temperature: float | Tensor) -> Tensor:
        r"""Return the logits ``(N, C)`` whose softmax at a temperature is the target distribution.

        For a single model these are its logits. Where an ensemble's probabilities are averaged, it
        is the mean of the softened ones (Hinton et al. 2015, section 1: the arithmetic mean of the
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


@runtime_checkable
class CombinedModel(Protocol):
    """A model that runs several models and combines their outputs: an ensemble."""

    def outputs(
        self, inputs: Mapping[str, Tensor], needs: Iterable[str], draws: bool = True
    ) -> ModelOutputs:
        """Run one forward pass of each model and combine the outputs.

        Args:
            inputs: inputs of all models.
            needs: see :class:`~distill.modeling.needs.Need`.
            draws: whether one model may be drawn at random to stand for all.
        """
