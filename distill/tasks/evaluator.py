"""How a task's predictions are measured."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from torch import Tensor

from distill.core.errors import UserError
from distill.core.jagged import JaggedArray
from distill.data.dataset import DistillationDataset
from distill.metrics.base import Metric
from distill.metrics.fidelity import log_softmax

PerClass = dict[str, dict[str, float | None]]
"""Precision, recall, F1 and support by class."""


LogitsT = TypeVar("LogitsT", np.ndarray, JaggedArray)
"""Logits of a split: one row per example, or one per labeled position."""


@dataclass(frozen=True)
class CalibrationSamples:
    """Confidence, correctness and loss of single predictions.

    Attributes:
        confidence: probability of the predicted class, ``(M,)``.
        correct: whether it is the label, ``(M,)``.
        losses: negative log-probability of the label in nats, ``(M,)``.
        clusters: the example of each prediction ``(M,)``, where an example has several.
    """

    confidence: np.ndarray
    correct: np.ndarray
    losses: np.ndarray
    clusters: np.ndarray | None = None

    @classmethod
    def from_logits(
        cls, logits: np.ndarray, labels: np.ndarray, clusters: np.ndarray | None = None
    ) -> "CalibrationSamples":
        """Return the samples of a categorical distribution, ``(M, C)`` and ``(M,)``."""
        log_probabilities = log_softmax(logits)
        predicted = log_probabilities.argmax(axis=1)
        return cls(
            confidence=np.exp(log_probabilities).max(axis=1),
            correct=predicted == labels,
            losses=-log_probabilities[np.arange(len(labels)), labels],
            clusters=clusters,
        )


class Evaluator(ABC, Generic[LogitsT]):
    """Metrics of a task, calibration and fidelity to the teacher.

    Args:
        metric: name of the metric that early stopping, the best checkpoint and the report's
            conclusion go by, one of ``selection_metrics``.
        per_class: whether to report precision, recall and F1 of every class.

    Attributes:
        compares_distributions: whether student and teacher run side by side on the evaluated split
            for the divergence of their distributions, of which :meth:`reduce_logits` keeps too
            little.

    Raises:
        UserError: for a metric that does not exist.
    """

    selection_metrics: ClassVar[tuple[str, ...]]
    compares_distributions: ClassVar[bool] = False

    def __init__(self, metric: str, per_class: bool = False):
        if metric not in self.selection_metrics:
            raise UserError(
                f"task.metric={metric}: choose one of {', '.join(self.selection_metrics)}"
            )
        self.metric_name, self.per_class = metric, per_class

    @property
    @abstractmethod
    def all_metrics(self) -> Sequence[Metric]:
        """Every metric that is measured, in the order of the report."""

    @property
    def metrics(self) -> dict[str, Metric]:
        """All metrics by name, the selection metric first."""
        ordered = sorted(self.all_metrics, key=lambda metric: metric.name != self.metric_name)
        return {metric.name: metric for metric in ordered}

    @property
    def selection_metric(self) -> Metric:
        """The metric that training and the conclusion go by."""
        return self.metrics[self.metric_name]

    @property
    def training_settings(self) -> dict[str, Any]:
        """Settings that change which checkpoint is the best, for cache keys."""
        return {}

    @abstractmethod
    def metric_inputs(
        self, logits: LogitsT, examples: DistillationDataset
    ) -> tuple[np.ndarray, ...]:
        """Return the arguments of the metrics, each with the measured examples on axis 0.

        Args:
            logits: of every example, as :meth:`reduce_logits` left them.
            examples: the measured split.

        Returns:
            The model's own array first; after it those that are the same for every model.
        """

    @abstractmethod
    def calibration(self, logits: LogitsT, labels: LogitsT) -> dict[str, float] | None:
        """Return calibration measures; ``None`` if the model gives no probabilities."""

    def calibration_samples(
        self, logits: LogitsT, examples: DistillationDataset
    ) -> "CalibrationSamples | None":
        """Return what :meth:`calibration` is computed from, for intervals and tests.

        ``None``: calibration is given without.
        """
        return None

    def categorical_logits(
        self, logits: LogitsT, examples: DistillationDataset
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Return logits ``(M, C)`` and labels ``(M,)`` of the distributions that are calibrated.

        A temperature is fitted to them. ``None``: there are none, or they are not kept.
        """
        return None

    @abstractmethod
    def fidelity(self, logits: LogitsT, teacher: LogitsT) -> dict[str, float | None]:
        """Return measures of agreement with the teacher, both by their logits."""

    def reduce_logits(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return what measuring needs of a batch's logits ``(N, C)``; default: all of them."""
        return logits

    def standardize(self, predictions: np.ndarray) -> np.ndarray:
        """Return predictions in a form in which those of two models are interchangeable."""
        return predictions

    def constant_prediction(
        self, logits: LogitsT, examples: DistillationDataset, names: Sequence[str]
    ) -> str | None:
        """Return what a model predicts if it is the same throughout, else ``None``.

        In words that follow "it predicts": ``the class positive for every example``.

        Args:
            logits: of every example.
            examples: the measured split.
            names: of the model's outputs.
        """
        return None

    def clusters(self, examples: DistillationDataset) -> np.ndarray | None:
        """Return the cluster of each measured example, ``(N,)``, in the order of the metrics' rows.

        Examples of one cluster are not independent, and are resampled together. ``None``: each is
        a cluster of its own.
        """
        return None

    def per_class_scores(
        self, logits: LogitsT, examples: DistillationDataset, names: Sequence[str]
    ) -> PerClass:
        """Return precision, recall, F1 and support of each class.

        Raises:
            UserError: for a task without classes.
        """
        raise UserError("task.per_class: this task has no classes")

    def fingerprint(self, content: str, examples: DistillationDataset) -> str:
        """Return a hash of what is measured; runs with different ones cannot be compared.

        Args:
            content: hash of the evaluated split and the label names.
            examples: the evaluated split as the student reads it.
        """
        return content

    def evaluate(self, logits: LogitsT, examples: DistillationDataset) -> dict[str, float]:
        """Return the value of every metric by name."""
        inputs = self.metric_inputs(logits, examples)
        return {name: float(metric(*inputs)) for name, metric in self.metrics.items()}
