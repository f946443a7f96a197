"""What the tasks share that read a text, or a pair of texts, and answer by one head over the whole.

Every such task is a subclass: it says what its labels are, what they cost when they are missed, how
a prediction is read off the logits, and by what it is measured. The rest of the program asks it.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from distill.errors import UserError


class TextTask:
    """One answer to a text or a pair of texts, by a linear head.

    Args:
        metric: what early stopping, the best checkpoint and the report's conclusion go by: one of
            ``choices``, all of which are better when larger.
        per_class: also precision, recall and F1 of every class.

    Attributes:
        distribution: what the logits are the parameters of: ``categorical``, ``bernoulli`` or
            ``gaussian``; decides the form of the terms on logits, see `distill.losses`.
        problem_type: how transformers calls the task in a model's configuration.
        heads: the ``problem_type`` of checkpoints whose trained head serves as it is.
        many_labels: whether an example's label is a list of classes.

    Raises:
        UserError: for a metric that does not exist.
    """

    name: str
    choices: tuple[str, ...]
    distribution: str
    problem_type: str
    heads: tuple[str | None, ...]
    many_labels = False
    inputs = ("text", "text_pair")
    auto_model = AutoModelForSequenceClassification
    head = "ForSequenceClassification"  # how an architecture with a trained head is named

    def __init__(self, metric: str, per_class: bool = False):
        if metric not in self.choices:
            raise UserError(f"task.metric={metric}: choose one of {', '.join(self.choices)}")
        self.metric, self.per_class = metric, per_class

    # --- what a task says ----------------------------------------------------------------------

    def label_names(self, splits: Mapping[str, Dataset], given: Sequence[str] | None) -> list[str]:
        """A name for each of the head's outputs; ``given`` is ``data.labels``."""
        raise NotImplementedError

    def targets(self, split: str, dataset: Dataset, names: Sequence[str]) -> Sequence:
        """The labels of a split as the loss and the metrics take them, one a row.

        Numbers are arrays, ``(N,)`` or ``(N, C)``: a split may have many millions of rows.

        Raises:
            UserError: for a label that is missing or cannot be.
        """
        raise NotImplementedError

    def no_label(self, names: Sequence[str]) -> Any:
        """What stands for the label of an example without one."""
        raise NotImplementedError

    def head_order(self, model_names: Mapping[int, str], names: Sequence[str]) -> list[int] | None:
        """Where each output stands in a trained head; ``None`` if it was trained for others."""
        raise NotImplementedError

    def hard_label_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Logits ``(N, C)`` and labels -> scalar: a sum over the labelled, divided by N."""
        raise NotImplementedError

    def predictions(self, logits: np.ndarray) -> np.ndarray:
        """What a model predicts, in the form of the labels; logits ``(N, C)``."""
        raise NotImplementedError

    def calibration(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float] | None:
        """How far a model's probabilities can be believed; ``None`` where it gives none."""
        raise NotImplementedError

    def fidelity(self, logits: np.ndarray, teacher: np.ndarray) -> dict[str, float | None]:
        """How near a model is to the teacher, both by their logits ``(N, C)``."""
        raise NotImplementedError

    def by_class(
        self, logits: np.ndarray, labels: np.ndarray, names: Sequence[str]
    ) -> dict[str, dict[str, float | None]]:
        """Precision, recall, F1 and support of each class; where it has classes."""
        raise NotImplementedError

    def metric_function(self, name: str) -> Callable[..., float]:
        """The function ``(predictions, labels) -> float`` behind a metric's name."""
        raise NotImplementedError

    # --- what they share -----------------------------------------------------------------------

    @property
    def settings(self) -> dict[str, Any]:
        """Plain values that labels and what is read may depend on, for the keys of caches."""
        return {
            name: value for name, value in vars(self).items() if name not in ("metric", "per_class")
        }

    @property
    def metrics(self) -> dict[str, Callable[..., float]]:
        """All metrics, the primary one first."""
        ordered = sorted(self.measured, key=lambda name: name != self.metric)
        return {name: self.metric_function(name) for name in ordered}

    def start(self, output: nn.Linear, labels: np.ndarray) -> None:
        """Set a new head's last layer to where training had better start from; nothing to set."""

    def comparable(self, predictions: np.ndarray) -> np.ndarray:
        """Predictions in a form in which one model's can be swapped with another's."""
        return predictions

    @property
    def measured(self) -> tuple[str, ...]:
        """The names of all metrics, those too that no choice of a model can go by."""
        return self.choices

    def outputs(self, names: Sequence[str]) -> str:
        """What the head answers, for the log."""
        return f"{len(names)} classes"

    def head_settings(self, names: Sequence[str]) -> dict[str, Any]:
        """What a model's configuration says about the outputs."""
        return {
            "num_labels": len(names),
            "id2label": dict(enumerate(names)),
            "label2id": {name: index for index, name in enumerate(names)},
            "problem_type": self.problem_type,
        }

    def load(self, path: str | Path, names: Sequence[str], **settings: Any) -> PreTrainedModel:
        """A pretrained encoder with a head for these outputs, new where it has none that fits."""
        return self.auto_model.from_pretrained(
            path,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            **self.head_settings(names),
            **settings,
        )

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, rows: Mapping[str, list], max_length: int
    ) -> dict[str, list]:
        """Texts or pairs -> the tokenizer's ids, cut to ``max_length`` tokens, not padded."""
        return dict(
            tokenizer(
                rows["text"],
                rows.get("text_pair"),
                truncation=True,
                max_length=max_length,
                return_attention_mask=False,
            )
        )
