"""A number for a text or a pair of texts, such as how similar two sentences are (STS-B)."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn

from distill.core.errors import UserError
from distill.data.columns import iter_values
from distill.metrics import regression
from distill.metrics.base import CountMetric
from distill.tasks.base import TextTask

OUTPUT = "score"
# A head starts near 0 and moves by the learning rate: numbers far beyond this it reaches late.
LARGEST = 20.0


class Regression(TextTask):
    """Regression: one output, squared error to labels and to the teacher.

    The model's output is the label itself (divided by ``scale`` where that is given), without any
    function on it: what transformers' pipeline answers for a saved student is in the labels' units.
    Where labels are divided, the student's configuration says so: its output is then called
    ``score / 100``.

    Args:
        metric: what early stopping, the best checkpoint and the report's conclusion go by:
            ``pearson`` or ``spearman``. Both are 0 where predictions are constant.
        scale: labels are divided by it for training, and a teacher with a trained head is expected
            to speak of the labels so divided. The mean squared error that is reported is in the
            labels' own units whatever the scale. ``None``: 1, and labels too large for it are
            refused.

    Raises:
        UserError: for a metric that does not exist, or a scale that is not above 0.
    """

    name = "regression"
    choices = ("pearson", "spearman")
    distribution = "gaussian"
    problem_type = "regression"
    heads = ("regression",)

    def __init__(self, metric: str = "pearson", scale: float | None = None):
        if metric == "mean_squared_error":
            raise UserError(
                "task.metric=mean_squared_error: it is always reported; choose pearson or spearman "
                "for the best checkpoint to go by"
            )
        super().__init__(metric)
        if scale is not None and not (scale > 0 and math.isfinite(scale)):
            raise UserError(f"task.scale={scale}: it must be above 0")
        self.given_scale = scale
        self.scale = 1.0 if scale is None else float(scale)

    @property
    def measured(self) -> tuple[str, ...]:
        """The correlations, and the error, which is better when smaller."""
        return (*self.choices, "mean_squared_error")

    # --- labels --------------------------------------------------------------------------------

    def label_names(self, splits: Mapping[str, Dataset], given: Sequence[str] | None) -> list[str]:
        """The one output's name: ``score``, or ``score / 100`` where labels are divided.

        Raises:
            UserError: if ``data.labels`` names classes, if train's labels are no numbers, all the
                same, or too large.
        """
        if given is not None:
            raise UserError("data.labels names classes: task=regression has none, leave it out")
        numbers = self._numbers("train", splits["train"])
        if np.ptp(numbers) == 0:
            raise UserError(
                f"every label of train is {numbers[0]:g}: there is nothing to learn from"
            )
        largest = float(np.abs(numbers).max())
        if self.given_scale is None and largest > LARGEST:
            raise UserError(
                f"the labels reach {largest:g}, and a new head learns numbers around 1: set "
                f"task.scale={10 ** math.ceil(math.log10(largest) - 1):g} to divide them for "
                "training, or task.scale=1 to leave them"
            )
        return [OUTPUT if self.scale == 1 else f"{OUTPUT} / {self.scale:g}"]

    def targets(self, split: str, dataset: Dataset, names: Sequence[str]) -> np.ndarray:
        """The labels of a split as numbers, divided by ``scale``, ``(N,)``.

        Raises:
            UserError: for a label that is missing or no number.
        """
        return self._numbers(split, dataset) / self.scale

    def _numbers(self, split: str, dataset: Dataset) -> np.ndarray:
        feature = dataset.features["label"]
        if hasattr(feature, "names") or hasattr(feature, "feature"):
            other = "sequence_classification" if hasattr(feature, "names") else "multi_label"
            raise UserError(
                f"the labels of {split} are classes, and task=regression needs numbers: "
                f"task={other} is for classes"
            )
        numbers = np.empty(len(dataset), dtype=np.float64)
        for row, value in enumerate(iter_values(dataset, "label")):
            if value is None or (isinstance(value, str) and not value.strip()):
                raise UserError(f"{split} row {row + 1} has no label")
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

    def outputs(self, names: Sequence[str]) -> str:
        """The name of the number."""
        return f"a number, {names[0]}"

    def no_label(self, names: Sequence[str]) -> float:
        """Not a number."""
        return math.nan

    def head_order(self, model_names: Mapping[int, str], names: Sequence[str]) -> list[int] | None:
        """The one output of a head, if it speaks of labels divided as ours are.

        Whatever it is called it is taken for the labels themselves, unless its name says that they
        were divided.
        """
        if len(model_names) != 1:
            return None
        ((index, theirs),) = model_names.items()
        theirs = theirs if str(theirs).startswith(f"{OUTPUT} / ") else OUTPUT
        return [int(index)] if theirs == names[0] else None

    # --- loss, metrics -------------------------------------------------------------------------

    def hard_label_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        r"""Squared error in fp32: ``(N, 1)``, ``(N,)`` -> scalar.

        .. math:: \frac{1}{N} \sum_{n:\, y_n \text{ known}} (z_n - y_n)^2

        Examples without a label (not a number) add nothing to the sum, yet count in N, as in
        :func:`distill.tasks.class_labels.cross_entropy`.
        """
        known = labels.isfinite()
        # Not a number times 0 is not a number: it is replaced before, for the gradient's sake too.
        error = logits.float().squeeze(-1) - labels.float().where(known, 0.0)
        return (error.square() * known).sum() / len(labels)

    def predictions(self, logits: np.ndarray) -> np.ndarray:
        """The output itself, ``(N, 1)`` -> ``(N,)``; in the units of the labels as trained on."""
        return logits[..., 0]

    def start(self, output: nn.Linear, labels: np.ndarray) -> None:
        """Start from the labels' mean: the first epochs are not spent on getting there."""
        with torch.no_grad():
            output.bias.fill_(float(np.mean(labels)))

    def comparable(self, predictions: np.ndarray) -> np.ndarray:
        """Standardised, or ranks for Spearman's correlation.

        The metric cannot tell the difference, but the permutation test can, which swaps single
        predictions of two models: if one of them spreads its numbers more widely than the other,
        swapping would mix two scales and hide a difference.
        """
        if self.metric == "spearman":
            return regression.average_ranks(predictions)
        numbers = np.asarray(predictions, dtype=np.float64)
        spread = numbers.std()
        return (numbers - numbers.mean()) / (spread if spread > 0 else 1.0)

    def metric_function(self, name: str) -> Callable[..., float]:
        """Of predictions against labels, both as trained on."""
        if name == "mean_squared_error":
            return _in_own_units(self.scale)
        return {"pearson": regression.correlation, "spearman": _spearman}[name]

    def calibration(self, logits: np.ndarray, labels: np.ndarray) -> None:
        """None: the model gives no probabilities."""

    def fidelity(self, logits: np.ndarray, teacher: np.ndarray) -> dict[str, float | None]:
        """Pearson's correlation with the teacher's numbers."""
        return {
            "agreement": None,
            "kl_divergence": None,
            "correlation": regression.correlation(
                self.predictions(logits), self.predictions(teacher)
            ),
        }


def _spearman(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Spearman's correlation, 0 where predictions or labels are constant."""
    return regression.correlation(
        regression.average_ranks(predictions), regression.average_ranks(labels)
    )


def _in_own_units(scale: float) -> Callable[..., float]:
    """The mean squared error of numbers that were divided."""
    if scale == 1:
        return regression.mean_squared_error

    def mean_squared_error(predictions: np.ndarray, labels: np.ndarray, counts: np.ndarray):
        error = regression.mean_squared_error
        return error.from_counts(predictions * scale, labels * scale, counts)

    return CountMetric(mean_squared_error)
