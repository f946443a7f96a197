"""A task's output layer: how it is loaded, named, matched with a trained one and initialized."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from distill.core.errors import UserError
from distill.modeling.families import output_names
from distill.modeling.loading import load_config
from distill.modeling.pretrained_weights import load_pretrained


class Head(ABC):
    """The head that a task puts on an encoder.

    Attributes:
        auto_model: transformers' class that loads a model with such a head.
        architectures: end of the class name of a checkpoint with such a head, or several.
        problem_type: transformers' name of the task in a model's configuration.
        accepted_problem_types: the ``problem_type`` of checkpoints whose trained head fits.
        reuses_head: whether fine-tuning starts from the checkpoint's head instead of a new one.
    """

    auto_model: ClassVar[Any]
    architectures: ClassVar[tuple[str, ...]]
    problem_type: ClassVar[str | None] = None
    accepted_problem_types: ClassVar[tuple[str | None, ...]] = (None,)
    reuses_head: ClassVar[bool] = False

    @abstractmethod
    def output_order(
        self, model_names: Mapping[int, str], names: Sequence[str]
    ) -> list[int] | None:
        """Return the index of each output in a trained head.

        Args:
            model_names: names of the trained head's outputs by index.
            names: names of the outputs that the data need.

        Returns:
            One index for each of ``names``; ``None`` if the head was trained for other outputs.
        """

    def output_size(self, num_labels: int, config: PreTrainedConfig) -> int:
        """Return the number of outputs of a model's head.

        Args:
            num_labels: number of label names.
            config: the model's configuration.
        """
        return num_labels

    def config_settings(self, names: Sequence[str]) -> dict[str, Any]:
        """Return what a model's configuration says about the outputs."""
        return {
            "num_labels": len(names),
            "id2label": dict(enumerate(names)),
            "label2id": {name: index for index, name in enumerate(names)},
            "problem_type": self.problem_type,
        }

    def initialize(self, output: nn.Linear, labels: np.ndarray) -> None:
        """Initialize the last layer of a new head from the training labels; default: nothing."""
        return

    def load(self, path: str | Path, names: Sequence[str], **settings: Any) -> PreTrainedModel:
        """Load a pretrained model with a head of this size, which is to be trained.

        Raises:
            UserError: if the files lack a weight of the encoder, see :func:`load_pretrained`.
        """
        return load_pretrained(
            self.auto_model, path, new_head=True, **self.config_settings(names), **settings
        )

    def load_trained(self, path: str | Path, names: Sequence[str]) -> PreTrainedModel:
        """Load a model whose trained head is kept as it is; its outputs are named afterwards.

        Raises:
            UserError: if the files lack a weight of it, see :func:`load_pretrained`.
        """
        model = load_pretrained(self.auto_model, path, new_head=False)
        model.config.update(self.config_settings(names))
        return model

    def trained_order(self, config: PreTrainedConfig, names: Sequence[str]) -> list[int] | None:
        """Return the index of each output in a checkpoint's head.

        Args:
            config: the checkpoint's configuration.
            names: names of the outputs that the data need.

        Returns:
            ``None`` if it has no head that is trained for these outputs.
        """
        if not self.is_in(config):
            return None
        if getattr(config, "problem_type", None) not in self.accepted_problem_types:
            return None
        return self.output_order(output_names(config), names)

    def is_in(self, config: PreTrainedConfig) -> bool:
        """Return whether a checkpoint has a head of this kind, for whatever outputs."""
        return (config.architectures or [""])[0].endswith(self.architectures)

    def start(self, path: str | Path, names: Sequence[str]) -> tuple[PreTrainedModel, bool]:
        """Load a model to be trained: its own head where it is for these outputs, else a new one.

        Returns:
            The model with its outputs in the order of the names, and whether the head is new.

        Raises:
            UserError: if there is no such model, or its weights do not fit.
        """
        config = load_config(str(path), f"the model in {path}")
        order = self.trained_order(config, names)
        if order is None:
            model = self.load(path, names)
            if self.is_in(config) and not self.reuses_head:
                reset_head(model)
            return model, not self.reuses_head
        model = self.load_trained(path, names)
        if order != list(range(len(order))):
            reorder_head(model, order)
        return model, False

    def build(self, config: PreTrainedConfig) -> PreTrainedModel:
        """Return a model of a configuration with random weights."""
        model: PreTrainedModel = self.auto_model.from_config(config)
        return model

    def check_teacher(self, config: PreTrainedConfig, task_name: str) -> None:
        """Raise a ``UserError`` for a teacher that must not have this head; default: none."""
        return

    def check_config(self, config: PreTrainedConfig, task_name: str) -> None:
        """Raise a ``UserError`` for an architecture that has no class with this head."""
        with torch.device("meta"):
            try:
                self.auto_model.from_config(config)
            except ValueError as error:
                raise UserError(
                    f"{config.model_type} has no head for task={task_name} "
                    f"(...{self.architectures[0]}): choose another model"
                ) from error


def last_linear(model: nn.Module) -> nn.Linear | None:
    """Return the last linear layer outside of the encoder; ``None`` if the head has none."""
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    linear = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not name.startswith(prefix)
    ]
    return linear[-1] if linear else None


def output_layer(model: PreTrainedModel) -> nn.Linear:
    """Return the head's last linear layer, which has one row per output."""
    layer = last_linear(model)
    assert layer is not None and layer.out_features == model.config.num_labels
    return layer


def reorder_head(model: PreTrainedModel, order: list[int]) -> None:
    """Put the outputs of a trained head into another order.

    Args:
        model: its last linear layer is changed.
        order: the index of each output in the present head.
    """
    layer = output_layer(model)
    with torch.no_grad():
        layer.weight.copy_(layer.weight[order].clone())
        if layer.bias is not None:
            layer.bias.copy_(layer.bias[order].clone())


def reset_head(model: PreTrainedModel) -> None:
    """Draw the whole head anew: one of the same shape may have been trained for another task."""
    std = getattr(model.config, "initializer_range", 0.02)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and not name.startswith(model.base_model_prefix + "."):
            nn.init.normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
