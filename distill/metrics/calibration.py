"""How well the probabilities of a classifier match the frequencies of its being right."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from distill.metrics.base import Array, CountMetric, Floats, as_aligned_arrays

BINS = 15
"""Bins of the expected calibration error, as Guo et al. 2017 take."""
TEMPERATURES = (1e-3, 1e3)
"""Range in which :func:`fit_temperature` looks."""


def negative_log_likelihood(log_probabilities: ArrayLike, labels: ArrayLike) -> float:
    r"""Compute the mean negative log-probability of the labels, in nats.

    .. math:: -\frac{1}{N} \sum_i \log q_{i y_i}

    Args:
        log_probabilities: ``(N, C)``, as :func:`.log_softmax` returns them.
        labels: ``(N,)``, integers from 0 to C - 1.

    Raises:
        ValueError: no examples, arrays of different lengths, or a label outside 0 to C - 1.

    >>> round(negative_log_likelihood(np.log([[0.5, 0.5], [0.2, 0.8]]), [0, 1]), 4)
    0.4581
    """
    scores, ids = _as_scores_and_labels(log_probabilities, labels)
    return float(-scores[np.arange(len(ids)), ids].mean())


def expected_calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, bins: int = 15
) -> float:
    r"""Compute the expected calibration error (Guo et al. 2017, eq. 3).

    .. math:: \sum_b \frac{n_b}{N} |\text{accuracy}_b - \text{confidence}_b|

    over ``bins`` bins of equal width on the probability of the predicted class, each open on the
    left and closed on the right. The paper uses 15.

    Args:
        probabilities: ``(N, C)``.
        labels: ``(N,)``, integers from 0 to C - 1.
        bins: number of bins.

    Raises:
        ValueError: no examples, arrays of different lengths, or a label outside 0 to C - 1.

    >>> round(expected_calibration_error([[0.9, 0.1], [0.2, 0.8]], [0, 0]), 4)
    0.45
    """
    scores, ids = _as_scores_and_labels(probabilities, labels)
    return calibration_error(scores.max(axis=1), scores.argmax(axis=1) == ids, bins)


def calibration_error(confidence: ArrayLike, correct: ArrayLike, bins: int = 15) -> float:
    """Compute the expected calibration error from the predicted classes alone.

    Args:
        confidence: probability of each predicted class, ``(N,)``.
        correct: whether it is the label, ``(N,)``.
        bins: number of bins.

    Raises:
        ValueError: no examples, or arrays of different lengths.

    >>> round(calibration_error([0.9, 0.8], [True, False]), 4)
    0.45
    """
    confidences, hits = as_aligned_arrays(confidence, correct)
    bin_index = bin_indices(confidences, bins)
    return float(np.abs(np.bincount(bin_index, weights=hits - confidences)).sum() / len(hits))


@CountMetric
def mean_loss(losses: Array, counts: Floats) -> Floats:
    """Mean of the losses ``(N,)``, in the form that the bootstrap is fast with.

    Called as ``mean_loss(losses) -> float``; of the negative log-probabilities of the labels it is
    :func:`negative_log_likelihood`.

    >>> mean_loss([0.5, 1.5])
    1.0
    """
    mean: Floats = counts @ losses / counts.sum(axis=1)
    return mean


@CountMetric
def binned_error(predictions: Array, counts: Floats) -> Floats:
    """Compute the expected calibration error in the form that the bootstrap is fast with.

    Called as ``binned_error(predictions) -> float`` with confidence and correctness ``(N, 2)``, it
    is :func:`calibration_error` of 15 bins.

    >>> round(binned_error([[0.9, 1.0], [0.8, 0.0]]), 4)
    0.45
    """
    error: Floats = np.abs(counts @ bin_gaps(predictions)).sum(axis=1) / counts.sum(axis=1)
    return error


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float | None:
    r"""Fit the temperature that minimizes the negative log-likelihood (Guo et al. 2017, sec. 4.2).

    .. math:: T = \arg\min_T -\frac{1}{N} \sum_i \log \mathrm{softmax}(z_i / T)_{y_i}

    In :math:`b = 1/T` the function is convex: its slope :math:`\frac{1}{N} \sum_i (E_{p_i}[z_i] -
    z_{i y_i})` grows with b, by the mean variance of the logits under the predicted distribution.
    Newton's method finds where it is 0, kept within a bracket.

    Args:
        logits: ``(N, C)``; of a choice between two classes by one logit z, the columns 0 and z.
        labels: ``(N,)``, integers from 0 to C - 1.

    Returns:
        The temperature; ``None`` where none within :data:`TEMPERATURES` is best: the likelihood of
        labels that are all predicted grows without end as T falls, and logits that say less of the
        labels than chance, or nothing, are best at an infinite T.

    Raises:
        ValueError: no examples, arrays of different lengths, or a label outside 0 to C - 1.

    >>> logits = [[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [0.0, 2.0]]
    >>> round(fit_temperature(logits, [0, 0, 0, 0]), 4)  # right in three of four: 2 / log(3)
    1.8205
    >>> fit_temperature(logits, [0, 0, 0, 1]) is None
    True
    """
    table, ids = _as_scores_and_labels(logits, labels)
    # An impossible class (-inf) stays one at any temperature, without 0 times infinity.
    table = np.maximum(table - table.max(axis=1, keepdims=True), -1e30)
    of_labels = table[np.arange(len(ids)), ids].mean()

    def slope_and_curvature(scale: float) -> tuple[float, float]:
        weights = np.exp(scale * table)
        weights /= weights.sum(axis=1, keepdims=True)
        means = (weights * table).sum(axis=1)
        variances = (weights * table**2).sum(axis=1) - means**2
        return float(means.mean() - of_labels), float(variances.mean())

    low, high = (1 / temperature for temperature in reversed(TEMPERATURES))
    if slope_and_curvature(low)[0] >= 0 or slope_and_curvature(high)[0] <= 0:
        return None
    scale = 1.0
    for _ in range(100):
        slope, curvature = slope_and_curvature(scale)
        low, high = (scale, high) if slope < 0 else (low, scale)
        following = scale - slope / curvature if curvature > 0 else low
        if not low < following < high:
            following = float(np.sqrt(low * high))
        if abs(following - scale) <= 1e-12 * scale:
            break
        scale = following
    return 1 / scale


def bin_gaps(predictions: Array) -> Floats:
    """Return correctness minus confidence in the column of its bin, else 0, ``(N, 15)``.

    Args:
        predictions: confidence and correctness, ``(N, 2)``.
    """
    gaps = np.zeros((len(predictions), BINS))
    bins = bin_indices(predictions[:, 0], BINS)
    gaps[np.arange(len(predictions)), bins] = predictions[:, 1] - predictions[:, 0]
    return gaps


def bin_indices(confidences: Array, bins: int) -> NDArray[np.int64]:
    """Return the bin of each confidence ``(N,)``; bins of equal width, open on the left."""
    return np.digitize(confidences, np.linspace(0, 1, bins + 1)[1:-1], right=True)


def _as_scores_and_labels(
    scores: ArrayLike, labels: ArrayLike
) -> tuple[Floats, NDArray[np.integer]]:
    """Return scores ``(N, C)`` in float64 and labels ``(N,)`` that index them."""
    table, ids = as_aligned_arrays(scores, labels)
    if ids.min() < 0 or ids.max() >= table.shape[1]:
        raise ValueError(
            f"labels must lie between 0 and {table.shape[1] - 1}, found {ids.min()} to {ids.max()}"
        )
    return table.astype(np.float64), ids
