"""Several models whose outputs are combined."""

from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.modeling_outputs import SequenceClassifierOutput

from distill.modeling.families import config_of
from distill.modeling.features import forward_with_features
from distill.modeling.forward import output_logits
from distill.modeling.loading import call_model
from distill.modeling.outputs import ModelOutputs

Combine = Literal["probabilities", "logits", "random"]
"""How the outputs of an ensemble are combined."""


class Ensemble(nn.Module):
    """Several models that act as one teacher.

    Args:
        members: the models by name.
        combine: ``probabilities``: the mean of their softened distributions (Hinton et al. 2015,
            section 1); ``logits``: the mean of their logits, the geometric mean of the
            distributions; ``random``: one of them for each batch (Fukuda et al. 2017).
        weights: weight of each member by name; they sum to 1.
    """

    def __init__(
        self, members: Mapping[str, nn.Module], combine: Combine, weights: Mapping[str, float]
    ):
        super().__init__()
        self.names = list(members)
        self._models = nn.ModuleList(members.values())
        self.combine, self.weights = combine, dict(weights)

    @property
    def members(self) -> dict[str, nn.Module]:
        """The models by name."""
        return dict(zip(self.names, self._models, strict=True))

    @property
    def config(self) -> PreTrainedConfig:
        """Configuration of the first member."""
        return config_of(self._models[0])

    def forward(self, **inputs: Tensor) -> SequenceClassifierOutput:
        """Return the combined ``logits`` ``(N, C)``.

        Args:
            inputs: ``NAME.FIELD`` for each member and field; or ``FIELD``, the same for all.
        """
        is_shared = not any("." in name for name in inputs)
        outputs = {
            name: ModelOutputs(
                output_logits(
                    call_model(member, inputs if is_shared else _member_inputs(inputs, name))
                )
            )
            for name, member in self.members.items()
        }
        return SequenceClassifierOutput(logits=self.combine_outputs(outputs, draws=False).logits)

    def outputs(
        self, inputs: Mapping[str, Tensor], needs: Iterable[str], draws: bool = True
    ) -> ModelOutputs:
        """Run one forward pass of each member and combine what an objective needs of them."""
        needs = frozenset(needs)
        outputs = {
            name: forward_with_features(member, _member_inputs(inputs, name), needs)
            for name, member in self.members.items()
        }
        return self.combine_outputs(outputs, draws)

    def combine_cached_logits(self, logits: Tensor) -> ModelOutputs:
        """Combine cached logits ``(N, K, C)``, one entry for each of the K members."""
        return self.combine_outputs(
            {name: ModelOutputs(logits[:, index]) for index, name in enumerate(self.members)}
        )

    def combine_outputs(
        self, outputs: Mapping[str, ModelOutputs], draws: bool = True
    ) -> ModelOutputs:
        """Combine the outputs of the members.

        Args:
            outputs: of each member by name.
            draws: whether ``random`` draws a member; otherwise it is the mean of the probabilities.
        """
        if self.combine == "random" and draws:
            weights = torch.tensor([self.weights[name] for name in outputs])
            drawn = list(outputs.values())[int(torch.multinomial(weights, 1))]
            return ModelOutputs(drawn.logits, members=outputs)
        problem_type = getattr(self.config, "problem_type", None)
        # A number is already the mean of a distribution.
        if self.combine == "logits" or problem_type == "regression":
            weighted = (
                self.weights[name] * member.logits.float() for name, member in outputs.items()
            )
            logits = sum(weighted, start=torch.zeros(()))
            return ModelOutputs(logits, members=outputs)
        combined = ModelOutputs(
            next(iter(outputs.values())).logits, members=outputs, averaged=self.weights,
            by_class=problem_type == "multi_label_classification",
        )  # fmt: skip
        combined.logits = combined.logits_at(1.0)
        return combined


def _member_inputs(inputs: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    prefix = f"{name}."
    return {
        key.removeprefix(prefix): value for key, value in inputs.items() if key.startswith(prefix)
    }
