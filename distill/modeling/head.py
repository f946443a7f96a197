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
        """Load a pretrained model with a head for these outputs, new where none fits."""
        model: PreTrainedModel = self.auto_model.from_pretrained(
            path,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            **self.config_settings(names),
            **settings,
        )
        return model

    def load_trained(self, path: str | Path, names: Sequence[str]) -> PreTrainedModel:
        """Load a model whose trained head is kept as it is; its outputs are named afterwards."""
        model: PreTrainedModel = self.auto_model.from_pretrained(
            path, dtype=torch.float32, ignore_mismatched_sizes=False
        )
        model.config.update(self.config_settings(names))
        return model

    def build(self, config: PreTrainedConfig) -> PreTrainedModel:
        """Return a model of a configuration with random weights."""
        model: PreTrainedModel = self.auto_model.from_config(config)
        return model

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
