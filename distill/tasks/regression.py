"""A number for a text or a pair of texts, such as the similarity of two sentences (STS-B)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from distill.answers.classes import NumberReader
from distill.baselines.constant import MeanLabel
from distill.baselines.words import Words
from distill.core.errors import UserError
from distill.data.columns import iter_values
from distill.data.dataset import DistillationDataset
from distill.data.schema import LABEL
from distill.data.text_preprocessor import TextPreprocessor
from distill.metrics import regression
from distill.metrics.base import CountMetric, Floats, Metric
from distill.modeling.head import Head
from distill.objectives.criterion import Criterion, Distribution
from distill.tasks.base import Task
from distill.tasks.evaluator import Evaluator
from distill.tasks.sequence_classification import TextPairSchema

OUTPUT_NAME = "score"
# A new head starts near 0 and moves by the learning rate: larger labels are reached late.
MAX_LABEL = 20.0


class Regression(Task):
    """Regression: one output, squared error to labels and to the teacher.

    The model's output is the label itself (divided by ``scale`` where given), without a function
    applied to it: transformers' pipeline answers in the labels' units. Where labels are divided,
    the student's configuration says so: its output is then named ``score / 100``.

    Args:
        metric: ``pearson`` or ``spearman``: what early stopping, the best checkpoint and the
            report's conclusion go by. Both are 0 where predictions are constant.
        scale: divisor of the labels in training; a teacher with a trained head is expected to
            predict labels divided by it too. The reported mean squared error is in the labels'
            own units. ``None``: 1, and labels too large for it are refused.

    Raises:
        UserError: for a metric that does not exist, or a scale that is not above 0.
    """

    schema: "NumberSchema"

    def __init__(self, metric: str = "pearson", scale: float | None = None):
        if metric == "mean_squared_error":
            raise UserError(
                "task.metric=mean_squared_error: it is always reported; choose pearson or spearman "
                "for the best checkpoint to go by"
            )
        evaluator = RegressionEvaluator(metric, 1.0 if scale is None else float(scale))
        if scale is not None and not (scale > 0 and math.isfinite(scale)):
            raise UserError(f"task.scale={scale}: it must be above 0")
        super().__init__(
            name="regression",
            schema=NumberSchema("regression", scale),
            preprocessor=TextPreprocessor("regression"),
            head=RegressionHead(),
            criterion=SquaredErrorCriterion(),
            evaluator=evaluator,
            baselines=(MeanLabel(), Words("gaussian")),
        )

    def answer_reader(
        self, names: Sequence[str], columns: Mapping[str, Sequence[str]], **settings: Any
    ) -> NumberReader:
        """Return the reader of a number in the labels' own units."""
        return NumberReader(self.schema.scale, columns=columns, **settings)


class NumberSchema(TextPairSchema):
    """One number per example.

    Args:
        task_name: name of the task, for messages.
        scale: divisor of the labels; ``None``: 1, and large labels are refused.
    """

    def __init__(self, task_name: str, scale: float | None = None):
        super().__init__(task_name)
        self.given_scale = scale
        self.scale = 1.0 if scale is None else float(scale)

    @property
    def settings(self) -> dict[str, Any]:
        """The scale, given or not."""
        return {"given_scale": self.given_scale, "scale": self.scale}

    def label_names(self, splits: Mapping[str, Dataset], given: Sequence[str] | None) -> list[str]:
        """Return the output's name: ``score``, or ``score / 100`` where labels are divided.

        Raises:
            UserError: if ``data.labels`` names classes, or train's labels are not numbers, all
                equal, or too large.
        """
        if given is not None:
            raise UserError("data.labels names classes: task=regression has none, leave it out")
        numbers = self._numbers("train", splits["train"])
        if np.ptp(numbers) == 0:
            raise UserError(
                f"every label of train is {numbers[0]:g}: there is nothing to learn from"
            )
        largest = float(np.abs(numbers).max())
        if self.given_scale is None and largest > MAX_LABEL:
            raise UserError(
                f"the labels reach {largest:g}, and a new head learns numbers around 1: set "
                f"task.scale={10 ** math.ceil(math.log10(largest) - 1):g} to divide them for "
                "training, or task.scale=1 to leave them"
            )
        return [OUTPUT_NAME if self.scale == 1 else f"{OUTPUT_NAME} / {self.scale:g}"]

    def targets(self, split: str, rows: Dataset, names: Sequence[str]) -> np.ndarray:
        """Return the labels of a split divided by ``scale``, ``(N,)``.

        Raises:
            UserError: for a label that is missing or not a number.
        """
        return self._numbers(split, rows) / self.scale

    def _numbers(self, split: str, rows: Dataset) -> np.ndarray:
        feature = rows.features[LABEL]
        if hasattr(feature, "names") or hasattr(feature, "feature"):
            fitting = "sequence_classification" if hasattr(feature, "names") else "multi_label"
            raise UserError(
                f"the labels of {split} are classes, and task=regression needs numbers: "
                f"task={fitting} is for classes"
            )
        numbers = np.empty(len(rows), dtype=np.float64)
        for row, value in enumerate(iter_values(rows, LABEL)):
            if value is None or (isinstance(value, str) and not value.strip()):
                raise UserError(
                    f"{split} row {row + 1} has no label: data.drop_unlabeled=true leaves such "
                    "rows out"
                )
            try:
                number = float(value)
            except (TypeError, ValueError):
                number = math.nan
            if not math.isfinite(number):
                raise UserError(
                    f"{split} row {row + 1} has the label '{value}', which is no number: "
                    "task=sequence_classification is for classes"
                )
            numbers[row] = number
        return numbers

    def missing_label(self, names: Sequence[str]) -> float:
        """Return NaN, which the loss ignores."""
        return math.nan

    def describe_outputs(self, names: Sequence[str]) -> str:
        """Name the number."""
        return f"a number, {names[0]}"


class RegressionHead(Head):
    """A linear layer over the pooled first token with one output."""

    auto_model = AutoModelForSequenceClassification
    architectures = ("ForSequenceClassification",)
    problem_type = "regression"
    accepted_problem_types = ("regression",)

    def output_order(
        self, model_names: Mapping[int, str], names: Sequence[str]
    ) -> list[int] | None:
        """Accept a single output whose labels were divided by the same scale.

        Any name is taken for the labels themselves, unless it says that they were divided.
        """
        if len(model_names) != 1:
            return None
        ((index, model_name),) = model_names.items()
        if not str(model_name).startswith(f"{OUTPUT_NAME} / "):
            model_name = OUTPUT_NAME
        return [int(index)] if model_name == names[0] else None

    def initialize(self, output: nn.Linear, labels: np.ndarray) -> None:
        """Set the bias to the mean label, so that no epochs are spent on reaching it."""
        with torch.no_grad():
            output.bias.fill_(float(np.mean(labels)))


class SquaredErrorCriterion(Criterion):
    """The mean of a Gaussian, squared error on labels."""

    distribution: ClassVar[Distribution] = "gaussian"

    def hard_label_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        r"""Squared error in fp32: ``(N, 1)``, ``(N,)`` -> scalar.

        .. math:: \frac{1}{N} \sum_{n:\, y_n \text{ known}} (z_n - y_n)^2

        Examples without a label (NaN) add nothing to the sum, but count in N, as in
        :func:`distill.tasks.class_labels.cross_entropy`.
        """
        known = labels.isfinite()
        # NaN times 0 is NaN: it is replaced before, for the gradient as well.
        error = logits.float().squeeze(-1) - labels.float().where(known, 0.0)
        return (error.square() * known).sum() / len(labels)


class RegressionEvaluator(Evaluator[np.ndarray]):
    """Pearson's and Spearman's correlation and the mean squared error.

    Args:
        metric: see :class:`Regression`.
        scale: divisor of the labels.
    """

    selection_metrics = ("pearson", "spearman")

    def __init__(self, metric: str, scale: float = 1.0):
        super().__init__(metric)
        self.scale = scale

    @property
    def all_metrics(self) -> list[Metric]:
        """The correlations, and the error in the labels' own units."""
        return [
            Metric("pearson", regression.correlation),
            Metric("spearman", _spearman),
            Metric("mean_squared_error", _unscaled_error(self.scale), higher_is_better=False),
        ]

    def metric_inputs(
        self, logits: np.ndarray, examples: DistillationDataset
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return outputs and labels as trained on, ``(N,)`` each."""
        return logits[..., 0], examples.label_values

    def constant_prediction(
        self, logits: np.ndarray, examples: DistillationDataset, names: Sequence[str]
    ) -> str | None:
        """Return the only number that is predicted, in the labels' own units."""
        numbers = logits[..., 0]
        if len(numbers) < 2 or np.ptp(numbers) > 1e-6 * max(1.0, float(np.abs(numbers).max())):
            return None
        return f"the number {float(numbers[0]) * self.scale:.4g} for every example"

    def standardize(self, predictions: np.ndarray) -> np.ndarray:
        """Return standardized predictions, or their ranks for Spearman's correlation.

        The metric is invariant to it, but the permutation test swaps single predictions of two
        models: if one model spreads its numbers more widely, swapping would mix two scales and hide
        a difference.
        """
        if self.metric_name == "spearman":
            return regression.average_ranks(predictions)
        numbers = np.asarray(predictions, dtype=np.float64)
        spread = numbers.std()
        standardized: np.ndarray = (numbers - numbers.mean()) / (spread if spread > 0 else 1.0)
        return standardized

    def calibration(self, logits: np.ndarray, labels: np.ndarray) -> None:
        """Return nothing: the model gives no probabilities."""

    def fidelity(self, logits: np.ndarray, teacher: np.ndarray) -> dict[str, float | None]:
        """Return Pearson's correlation with the teacher's outputs."""
        return {
            "agreement": None,
            "kl_divergence": None,
            "correlation": regression.correlation(logits[..., 0], teacher[..., 0]),
        }


def _spearman(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Spearman's correlation, 0 where predictions or labels are constant."""
    return regression.correlation(
        regression.average_ranks(predictions), regression.average_ranks(labels)
    )


def _unscaled_error(scale: float) -> CountMetric:
    """Mean squared error in the units of labels that were divided by ``scale``."""
    if scale == 1:
        return regression.mean_squared_error

    def mean_squared_error(predictions: np.ndarray, labels: np.ndarray, counts: Floats) -> Floats:
        error = regression.mean_squared_error
        return error.from_counts(predictions * scale, labels * scale, counts)

    return CountMetric(mean_squared_error)
