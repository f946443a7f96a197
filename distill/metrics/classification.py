"""Metrics of single-label and multi-label classification."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from distill.metrics.base import Array, CountMetric, Floats, as_aligned_arrays

PerClassScores = dict[str, float | int | None]
"""``precision``, ``recall``, ``f1`` and ``support`` of one class."""


@CountMetric
def accuracy(predictions: Array, labels: Array, counts: Floats) -> Floats:
    """Fraction of the examples whose prediction equals the label.

    Called as ``accuracy(predictions, labels) -> float`` with two integer arrays ``(N,)``.

    Raises:
        ValueError: no examples, or arrays of different lengths.

    >>> accuracy([0, 1, 1, 2], [0, 1, 2, 2])
    0.75
    """
    fraction: Floats = counts @ (predictions == labels) / counts.sum(axis=1)
    return fraction


@CountMetric
def macro_f1(predictions: Array, labels: Array, counts: Floats) -> Floats:
    r"""Mean over the classes of F1, :math:`2 TP_c / (\text{labeled}_c + \text{predicted}_c)`.

    Called as ``macro_f1(predictions, labels) -> float`` with two integer arrays ``(N,)``. The mean
    is over the classes that occur among the labels or the predictions, as scikit-learn's
    ``f1_score(average="macro", zero_division=0)`` computes it. A resample without any example of a
    rare class therefore averages over the others.

    Raises:
        ValueError: no examples, or arrays of different lengths.

    >>> round(macro_f1([0, 1, 1, 2], [0, 1, 2, 2]), 4)
    0.7778
    """
    labeled, predicted, correct = _class_counts(predictions, labels, counts)
    total = labeled + predicted
    f1 = 2 * correct / np.maximum(total, 1)
    mean: Floats = f1.sum(axis=1) / (total > 0).sum(axis=1)
    return mean


@CountMetric
def matthews_correlation(predictions: Array, labels: Array, counts: Floats) -> Floats:
    r"""Matthews correlation for any number of classes (Gorodkin 2004, the :math:`R_K` statistic).

    .. math:: \frac{h n - \sum_c p_c t_c}{\sqrt{n^2 - \sum_c p_c^2} \sqrt{n^2 - \sum_c t_c^2}}

    with :math:`h` correct of :math:`n` examples, :math:`p_c` predictions and :math:`t_c` labels of
    class c. It is 0 where all predictions or all labels are of one class, as in scikit-learn.
    Called as ``matthews_correlation(predictions, labels) -> float`` with two integer arrays
    ``(N,)``.

    Raises:
        ValueError: no examples, or arrays of different lengths.

    >>> round(matthews_correlation([0, 1, 1, 2], [0, 1, 2, 2]), 4)
    0.7
    """
    labeled, predicted, correct = _class_counts(predictions, labels, counts)
    square = counts.sum(axis=1) ** 2
    covariance = correct.sum(axis=1) * counts.sum(axis=1) - (predicted * labeled).sum(axis=1)
    # Whole numbers below 2**53, so that a single class gives an exact zero.
    scale = np.sqrt(square - (predicted**2).sum(axis=1)) * np.sqrt(
        square - (labeled**2).sum(axis=1)
    )
    correlation: Floats = np.divide(covariance, scale, out=np.zeros_like(scale), where=scale > 0)
    return correlation


@CountMetric
def micro_f1(predictions: Array, labels: Array, counts: Floats) -> Floats:
    r"""F1 over all decisions of all classes, :math:`2 TP / (\text{labeled} + \text{predicted})`.

    Called as ``micro_f1(predictions, labels) -> float`` with two arrays ``(N, C)`` of 0 and 1. It
    is 0 where nothing is labeled and nothing predicted, as in scikit-learn.

    Raises:
        ValueError: no examples, or arrays of different lengths.

    >>> micro_f1([[1, 0], [1, 1]], [[1, 0], [0, 1]])
    0.8
    """
    correct = counts @ (predictions * labels).sum(axis=1)
    total = counts @ (predictions + labels).sum(axis=1)
    f1: Floats = 2 * correct / np.maximum(total, 1)
    return f1


@CountMetric
def multi_label_macro_f1(predictions: Array, labels: Array, counts: Floats) -> Floats:
    r"""Mean over the classes of F1, :math:`2 TP_c / (\text{labeled}_c + \text{predicted}_c)`.

    Called as ``multi_label_macro_f1(predictions, labels) -> float`` with two arrays ``(N, C)`` of 0
    and 1. As in :func:`macro_f1`, the mean is over the classes that occur among the labels or the
    predictions: scikit-learn's ``f1_score(average="macro", zero_division=np.nan)``. It is 0 where
    none does.

    Raises:
        ValueError: no examples, or arrays of different lengths.

    >>> round(multi_label_macro_f1([[1, 0, 0], [1, 1, 0]], [[1, 0, 0], [0, 1, 0]]), 4)
    0.8333
    """
    correct = counts @ (predictions * labels)
    total = counts @ (predictions + labels)
    f1 = 2 * correct / np.maximum(total, 1)
    mean: Floats = f1.sum(axis=1) / np.maximum((total > 0).sum(axis=1), 1)
    return mean


@CountMetric
def exact_match(predictions: Array, labels: Array, counts: Floats) -> Floats:
    """Fraction of the examples for which every class is predicted correctly (subset accuracy).

    Called as ``exact_match(predictions, labels) -> float`` with two arrays ``(N, C)`` of 0 and 1.

    Raises:
        ValueError: no examples, or arrays of different lengths.

    >>> exact_match([[1, 0], [1, 1]], [[1, 0], [0, 1]])
    0.5
    """
    fraction: Floats = counts @ (predictions == labels).all(axis=1) / counts.sum(axis=1)
    return fraction


def per_class_scores(
    predicted: ArrayLike, labeled: ArrayLike, names: Sequence[str]
) -> dict[str, PerClassScores]:
    """Compute precision, recall, F1 and support of each class.

    Args:
        predicted: whether each class is predicted for each example, ``(N, C)``.
        labeled: whether each class is a label of each example, ``(N, C)``.
        names: names of the C classes.

    Returns:
        ``{"precision", "recall", "f1", "support"}`` by class; None where the denominator is 0: the
        precision of a class that is never predicted, the recall of one that never occurs.

    Raises:
        ValueError: no examples, or arrays of different lengths.

    >>> per_class_scores([[True], [True]], [[True], [False]], ["yes"])
    {'yes': {'precision': 0.5, 'recall': 1.0, 'f1': 0.6666666666666666, 'support': 1}}
    """
    predicted, labeled = (array.astype(bool) for array in as_aligned_arrays(predicted, labeled))
    correct = predicted & labeled
    return per_class_scores_from_counts(
        correct.sum(axis=0), predicted.sum(axis=0), labeled.sum(axis=0), names
    )


def per_class_scores_from_counts(
    correct: ArrayLike, predicted: ArrayLike, labeled: ArrayLike, names: Sequence[str]
) -> dict[str, PerClassScores]:
    """Compute what :func:`per_class_scores` does from counts.

    Args:
        correct: number of correct predictions of each class, ``(C,)``.
        predicted: number of predictions of each class, ``(C,)``.
        labeled: number of labels of each class, ``(C,)``.
        names: names of the C classes.

    >>> per_class_scores_from_counts([1], [2], [1], ["yes"])
    {'yes': {'precision': 0.5, 'recall': 1.0, 'f1': 0.6666666666666666, 'support': 1}}
    """

    def ratio(part: int, whole: int) -> float | None:
        return part / whole if whole else None

    counts = [np.asarray(count).tolist() for count in (correct, predicted, labeled)]
    return {
        name: {
            "precision": ratio(true_positives, predictions),
            "recall": ratio(true_positives, support),
            "f1": ratio(2 * true_positives, predictions + support),
            "support": support,
        }
        for name, true_positives, predictions, support in zip(names, *counts, strict=True)
    }


def _class_counts(
    predictions: Array, labels: Array, counts: Floats
) -> tuple[Floats, Floats, Floats]:
    """Count how often each class is the label, the prediction, and both; each ``(R, C)``.

    The margins and the diagonal of the confusion matrix: all that F1 and Matthews need, and C
    columns instead of C squared.
    """
    classes = np.unique(np.concatenate([labels, predictions]))
    labeled = (labels[:, None] == classes).astype(np.float64)
    predicted = (predictions[:, None] == classes).astype(np.float64)
    return counts @ labeled, counts @ predicted, counts @ (labeled * predicted)
