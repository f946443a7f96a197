"""distill.metrics.classification"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from distill.metrics.base import CountMetric, Floats, as_aligned_arrays


@CountMetric
def accuracy(predictions: NDArray, labels: NDArray, counts: Floats) -> Floats:
    """Share of the examples whose prediction equals the label.

    Called as ``accuracy(predictions, labels) -> float`` with two integer arrays ``(N,)``.

    Raises:
        ValueError: no examples, or arrays of different lengths.

    >>> accuracy([0, 1, 1, 2], [0, 1, 2, 2])
    0.75
    """
    return counts @ (predictions == labels) / counts.sum(axis=1)


@CountMetric
def macro_f1(predictions: NDArray, labels: NDArray, counts: Floats) -> Floats:
    r"""Mean over the classes of F1, :math:`2 TP_c / (\text{labelled}_c + \text{predicted}_c)`.

    Called as ``macro_f1(predictions, labels) -> float`` with two integer arrays ``(N,)``. The mean
    is over the classes that occur among the labels or the predictions, as scikit-learn's
    ``f1_score(average="macro", zero_division=0)`` has it. A resample that lost a rare class
    altogether therefore averages over the others.

    Raises:
        ValueError: no examples, or arrays of different lengths.

    >>> round(macro_f1([0, 1, 1, 2], [0, 1, 2, 2]), 4)
    0.7778
    """
    labelled, predicted, hit = _class_counts(predictions, labels, counts)
    occurs = labelled + predicted
    return (2 * hit / np.maximum(occurs, 1)).sum(axis=1) / (occurs > 0).sum(axis=1)


@CountMetric
def matthews_correlation(predictions: NDArray, labels: NDArray, counts: Floats) -> Floats:
    r"""Matthews correlation for any number of classes (Gorodkin 2004, the :math:`R_K` statistic).

    .. math:: \frac{h n - \sum_c p_c t_c}{\sqrt{n^2 - \sum_c p_c^2} \sqrt{n^2 - \sum_c t_c^2}}

    with :math:`h` hits among :math:`n` examples, :math:`p_c` predictions and :math:`t_c` labels of
    class c. It is 0 where all predictions or all labels are of one class, as in scikit-learn.
    Called as ``matthews_correlation(predictions, labels) -> float`` with two integer arrays
    ``(N,)``.

    Raises:
        ValueError: no examples, or arrays of different lengths.

    >>> round(matthews_correlation([0, 1, 1, 2], [0, 1, 2, 2]), 4)
    0.7
    """
    labelled, predicted, hit = _class_counts(predictions, labels, counts)
    square = counts.sum(axis=1) ** 2
    covariance = hit.sum(axis=1) * counts.sum(axis=1) - (predicted * labelled).sum(axis=1)
    # Whole numbers below 2**53, so that a single class gives an exact zero.
    scale = np.sqrt(square - (predicted**2).sum(axis=1)) * np.sqrt(
        square - (labelled**2).sum(axis=1)
    )
    return np.divide(covariance, scale, out=np.zeros_like(scale), where=scale > 0)


@CountMetric
def micro_f1(predictions: NDArray, labels: NDArray, counts: Floats) -> Floats:
    r"""F1 over all decisions of all classes, :math:`2 TP / (\text{labelled} + \text{predicted})`.

    Called as ``micro_f1(predictions, labels) -> float`` with two arrays ``(N, C)`` of 0 and 1. It
    is 0 where nothing is labelled and nothing predicted, as in scikit-learn.

    Raises:
        ValueError: no examples, or arrays of different lengths.

    >>> micro_f1([[1, 0], [1, 1]], [[1, 0], [0, 1]])
    0.8
    """
    hit = counts @ (predictions * labels).sum(axis=1)
    occurs = counts @ (predictions + labels).sum(axis=1)
    return 2 * hit / np.maximum(occurs, 1)


@CountMetric
def multi_label_macro_f1(predictions: NDArray, labels: NDArray, counts: Floats) -> Floats:
    r"""Mean over the classes of F1, :math:`2 TP_c / (\text{labelled}_c + \text{predicted}_c)`.

    Called as ``multi_label_macro_f1(predictions, labels) -> float`` with two arrays ``(N, C)`` of 0
    and 1. As in :func:`macro_f1`, the mean is over the classes that occur among the labels or the
    predictions: scikit-learn's ``f1_score(average="macro", zero_division=np.nan)``. It is 0 where
    none does.

    Raises:
        ValueError: no examples, or arrays of different lengths.

    >>> round(multi_label_macro_f1([[1, 0, 0], [1, 1, 0]], [[1, 0, 0], [0, 1, 0]]), 4)
    0.8333
    """
    hit = counts @ (predictions * labels)
    occurs = counts @ (predictions + labels)
    f1 = 2 * hit / np.maximum(occurs, 1)
    return f1.sum(axis=1) / np.maximum((occurs > 0).sum(axis=1), 1)


@CountMetric
def exact_match(predictions: NDArray, labels: NDArray, counts: Floats) -> Floats:
    """Share of the examples for which every class is decided right.

    Called as ``exact_match(predictions, labels) -> float`` with two arrays ``(N, C)`` of 0 and 1.

    Raises:
        ValueError: no examples, or arrays of different lengths.

    >>> exact_match([[1, 0], [1, 1]], [[1, 0], [0, 1]])
    0.5
    """
    return counts @ (predictions == labels).all(axis=1) / counts.sum(axis=1)


def per_class_scores(
    predicted: ArrayLike, labelled: ArrayLike, names: Sequence[str]
) -> dict[str, dict[str, float | int | None]]:
    """Precision, recall, F1 and support of each class by its name.

    Args:
        predicted: which classes a model gives each example, ``(N, C)`` of truth values.
        labelled: which ones it has, ``(N, C)``.
        names: of the C classes.

    Returns:
        ``{"precision", "recall", "f1", "support"}`` a class; None where there is nothing to divide
        by: the precision of a class that is never predicted, the recall of one that never occurs.

    Raises:
        ValueError: no examples, or arrays of different lengths.

    >>> by_class([[True], [True]], [[True], [False]], ["yes"])
    {'yes': {'precision': 0.5, 'recall': 1.0, 'f1': 0.6666666666666666, 'support': 1}}
    """
    predicted, labelled = (array.astype(bool) for array in as_aligned_arrays(predicted, labelled))
    sums = (array.sum(axis=0) for array in (predicted & labelled, predicted, labelled))
    return per_class_scores_from_counts(*sums, names)


def per_class_scores_from_counts(
    hits: ArrayLike, predicted: ArrayLike, labelled: ArrayLike, names: Sequence[str]
) -> dict[str, dict[str, float | int | None]]:
    """The same from how often each class was hit, predicted and there to be found, ``(C,)`` each.

    >>> by_count([1], [2], [1], ["yes"])
    {'yes': {'precision': 0.5, 'recall': 1.0, 'f1': 0.6666666666666666, 'support': 1}}
    """

    def share(part: int, whole: int) -> float | None:
        return part / whole if whole else None

    return {
        name: {
            "precision": share(hit, guesses),
            "recall": share(hit, support),
            "f1": share(2 * hit, guesses + support),
            "support": support,
        }
        for name, hit, guesses, support in zip(
            names, *(np.asarray(count).tolist() for count in (hits, predicted, labelled)),
            strict=True,
        )
    }  # fmt: skip


def _class_counts(
    predictions: NDArray, labels: NDArray, counts: Floats
) -> tuple[Floats, Floats, Floats]:
    """How often each class is the label, the prediction, and both; each ``(R, C)``.

    The margins and the diagonal of the confusion matrix: all that F1 and Matthews need, and C
    columns instead of C squared.
    """
    classes = np.unique(np.concatenate([labels, predictions]))
    labelled = (labels[:, None] == classes).astype(np.float64)
    predicted = (predictions[:, None] == classes).astype(np.float64)
    return counts @ labelled, counts @ predicted, counts @ (labelled * predicted)
