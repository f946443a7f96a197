"""How good predictions are: the field's metrics, calibration, and fidelity to the teacher.

Pure functions over numpy arrays; N is the number of examples, C the number of classes. All
arithmetic is in float64 whatever comes in, and every metric is independent of the examples' order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


class CountMetric:
    """A metric that depends on the examples only through how often each distinct one occurs.

    Decorates a function ``from_counts(*rows, counts)``: each of ``rows`` holds K kinds of example
    on axis 0, ``counts`` of shape ``(R, K)`` says how often each kind occurs in each of R samples,
    and the answer is the R values of the metric. Every metric of a confusion matrix has this form,
    and the bootstrap and the permutation test are fast because of it: they draw counts, and no
    metric walks through single examples.

    The decorated name is called like any metric, ``metric(*arrays) -> float``.

    Raises:
        ValueError: on a call with no examples, or with arrays of different lengths.
    """

    def __init__(self, from_counts: Callable[..., Floats]) -> None:
        functools.update_wrapper(self, from_counts)
        self.from_counts = from_counts

    def __call__(self, *arrays: ArrayLike) -> float:
        """The metric of these examples, each on axis 0 of every array."""
        rows = aligned(*arrays)
        return float(self.from_counts(*rows, np.ones((1, len(rows[0]))))[0])


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


@CountMetric
def mean_squared_error(predictions: NDArray, targets: NDArray, counts: Floats) -> Floats:
    """Mean squared difference of two arrays ``(N,)``.

    Called as ``mean_squared_error(predictions, targets) -> float``.

    Raises:
        ValueError: no examples, or arrays of different lengths.

    >>> mean_squared_error([1.0, 2.0], [1.0, 4.0])
    2.0
    """
    error = predictions.astype(np.float64) - targets
    return counts @ (error * error) / counts.sum(axis=1)


@CountMetric
def correlation(predictions: NDArray, targets: NDArray, counts: Floats) -> Floats:
    """Pearson's linear correlation, 0 where one of the arrays is constant.

    What :func:`pearson` is, in the form that the bootstrap and the permutation test are fast with.
    Called as ``correlation(predictions, targets) -> float`` with two arrays ``(N,)``.

    Raises:
        ValueError: no examples, or arrays of different lengths.

    >>> round(correlation([1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 5.0]), 4)
    0.8315
    >>> correlation([2.0, 2.0, 2.0], [1.0, 3.0, 2.0])
    0.0
    """
    # Centred and brought to size first: the moments then lose no digits and do not overflow.
    x, y = (array - array.mean() for array in (predictions.astype(float), targets.astype(float)))
    x, y = (array / max(np.abs(array).max(), np.finfo(float).tiny) for array in (x, y))
    moments = counts @ np.stack([x, y, x * x, y * y, x * y], axis=1)
    mean_x, mean_y, xx, yy, xy = (moments / counts.sum(axis=1, keepdims=True)).T
    spread_x, spread_y = xx - mean_x**2, yy - mean_y**2
    exists = (spread_x > 1e-14) & (spread_y > 1e-14)
    scale = np.sqrt(np.where(exists, spread_x * spread_y, 1.0))
    return np.where(exists, np.clip((xy - mean_x * mean_y) / scale, -1, 1), 0.0)


def pearson(predictions: ArrayLike, targets: ArrayLike) -> float:
    """Pearson's linear correlation of two arrays ``(N,)``.

    NaN where one of them is constant: the correlation does not exist there.

    Raises:
        ValueError: no examples, or arrays of different lengths.

    >>> round(pearson([1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 5.0]), 4)
    0.8315
    """
    x, y = (array.astype(np.float64) for array in aligned(predictions, targets))
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    x, y = x - x.mean(), y - y.mean()
    # Sums, not dot products: BLAS takes every core for these, and stalls where one is busy.
    return float((x * y).sum() / np.sqrt((x * x).sum()) / np.sqrt((y * y).sum()))


def spearman(predictions: ArrayLike, targets: ArrayLike) -> float:
    """Spearman's correlation: Pearson's of the ranks, equal values sharing their average rank.

    Two arrays ``(N,)``; NaN where one of them is constant.

    Raises:
        ValueError: no examples, or arrays of different lengths.

    >>> round(spearman([1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 3.0, 5.0]), 4)
    0.9487
    """
    return pearson(*(average_ranks(array) for array in aligned(predictions, targets)))


def agreement(predictions: ArrayLike, teacher_predictions: ArrayLike) -> float:
    """Share of the examples on which two models predict the same class; two arrays ``(N,)``.

    The fidelity of Stanton et al. 2021 (eq. 2), whether or not the teacher is right.

    Raises:
        ValueError: no examples, or arrays of different lengths.

    >>> agreement([0, 1, 1, 2], [0, 1, 0, 2])
    0.75
    """
    return accuracy(predictions, teacher_predictions)


def log_softmax(logits: ArrayLike) -> Floats:
    """Logarithm of the softmax over the last axis, in float64; shape ``(..., C)`` is kept.

    The maximum is subtracted first, so that no exponential overflows.

    >>> log_softmax([1000.0, 1000.0]).round(4).tolist()
    [-0.6931, -0.6931]
    """
    logits = np.asarray(logits, dtype=np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def kl_divergence(teacher_logits: ArrayLike, student_logits: ArrayLike) -> float:
    r"""Mean over the examples of KL(teacher || student) at temperature 1, in nats.

    .. math:: \frac{1}{N} \sum_i \sum_c p_{ic} (\log p_{ic} - \log q_{ic})

    with the teacher's p and the student's q; logits of shape ``(N, C)``. A class to which the
    teacher gives no probability (a logit of minus infinity) adds 0; one that only the student
    rules out makes the divergence infinite.

    Raises:
        ValueError: no examples, or shapes that differ.

    >>> round(kl_divergence([[0.0, 0.0]], [[0.0, 1.0]]), 4)
    0.1201
    """
    teacher, student = aligned(teacher_logits, student_logits)
    if teacher.shape != student.shape:
        raise ValueError(f"logits of shapes {teacher.shape} and {student.shape} do not compare")
    teacher, student = log_softmax(teacher), log_softmax(student)
    possible = np.isfinite(teacher)
    gap = np.subtract(teacher, student, out=np.zeros_like(teacher), where=possible)
    return float((np.exp(teacher) * gap).sum(axis=-1).mean())


def bernoulli_divergence(teacher_logits: ArrayLike, student_logits: ArrayLike) -> float:
    r"""Mean over the examples of the divergences of each class's yes or no, summed, in nats.

    .. math:: \frac{1}{N} \sum_i \sum_c KL(\mathrm{B}(\sigma(z^t_{ic})) \|
       \mathrm{B}(\sigma(z^s_{ic})))

    with B the Bernoulli distribution and finite logits ``(N, C)``.

    Raises:
        ValueError: no examples, or shapes that differ.

    >>> round(bernoulli_divergence([[2.0]], [[0.0]]), 4)
    0.3278
    """
    teacher, student = (
        np.asarray(logits, dtype=np.float64) for logits in aligned(teacher_logits, student_logits)
    )
    if teacher.shape != student.shape:
        raise ValueError(f"logits of shapes {teacher.shape} and {student.shape} do not compare")
    # log sigmoid(z) = -log(1 + exp(-z)), without overflow
    yes, no = -np.logaddexp(0, -teacher), -np.logaddexp(0, teacher)
    divergence = np.exp(yes) * (yes + np.logaddexp(0, -student))
    divergence += np.exp(no) * (no + np.logaddexp(0, student))
    return float(divergence.sum(axis=-1).mean())


def by_class(
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
    predicted, labelled = (array.astype(bool) for array in aligned(predicted, labelled))
    sums = (array.sum(axis=0) for array in (predicted & labelled, predicted, labelled))
    return by_count(*sums, names)


def by_count(
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


def negative_log_likelihood(log_probabilities: ArrayLike, labels: ArrayLike) -> float:
    r"""Mean negative log-probability of the labels, in nats: :math:`-\frac{1}{N} \sum_i \log q_i`.

    Args:
        log_probabilities: ``(N, C)``, as :func:`log_softmax` gives them.
        labels: ``(N,)``, integers from 0 to C - 1.

    Raises:
        ValueError: no examples, arrays of different lengths, or a label outside 0 to C - 1.

    >>> round(negative_log_likelihood(np.log([[0.5, 0.5], [0.2, 0.8]]), [0, 1]), 4)
    0.4581
    """
    scores, labels = _scored(log_probabilities, labels)
    return float(-scores[np.arange(len(labels)), labels].mean())


def expected_calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, bins: int = 15
) -> float:
    r"""Expected calibration error (Guo et al. 2017, eq. 3).

    .. math:: \sum_b \frac{n_b}{N} |\text{accuracy}_b - \text{confidence}_b|

    over ``bins`` bins of equal width on the probability of the predicted class, each open on the
    left and closed on the right; 15 is the paper's number.

    Args:
        probabilities: ``(N, C)``.
        labels: ``(N,)``, integers from 0 to C - 1.
        bins: number of bins.

    Raises:
        ValueError: no examples, arrays of different lengths, or a label outside 0 to C - 1.

    >>> round(expected_calibration_error([[0.9, 0.1], [0.2, 0.8]], [0, 0]), 4)
    0.45
    """
    scores, labels = _scored(probabilities, labels)
    return calibration_error(scores.max(axis=1), scores.argmax(axis=1) == labels, bins)


def calibration_error(confidence: ArrayLike, right: ArrayLike, bins: int = 15) -> float:
    """The same of predictions whose distributions are not at hand.

    Args:
        confidence: probability of each predicted class, ``(N,)``.
        right: whether it is the label, ``(N,)``.
        bins: number of bins.

    Raises:
        ValueError: no examples, or arrays of different lengths.

    >>> round(calibration_error([0.9, 0.8], [True, False]), 4)
    0.45
    """
    confidence, right = aligned(confidence, right)
    bin_index = np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True)
    return float(np.abs(np.bincount(bin_index, weights=right - confidence)).sum() / len(right))


def aligned(*arrays: ArrayLike) -> tuple[NDArray, ...]:
    """The arguments as arrays, after checking that they hold the same examples on axis 0.

    Raises:
        ValueError: no examples, or arrays of different lengths.
    """
    checked = tuple(np.asarray(array) for array in arrays)
    lengths = {len(array) for array in checked}
    if len(lengths) != 1 or lengths == {0}:
        raise ValueError(
            "expected arrays over the same examples, at least one; "
            f"their shapes are {', '.join(str(array.shape) for array in checked)}"
        )
    return checked


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


def average_ranks(values: NDArray) -> Floats:
    """Ranks from 1 of an array ``(N,)``; equal values share their average rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def _scored(scores: ArrayLike, labels: ArrayLike) -> tuple[Floats, NDArray[np.integer]]:
    """Scores ``(N, C)`` in float64 and labels ``(N,)`` that point into them."""
    scores, labels = aligned(scores, labels)
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise ValueError(
            f"labels lie between 0 and {scores.shape[1] - 1}, "
            f"found {labels.min()} to {labels.max()}"
        )
    return scores.astype(np.float64), labels
