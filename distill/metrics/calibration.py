"""distill.metrics.calibration"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from distill.metrics.base import Floats, as_aligned_arrays


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
    scores, labels = _as_scores_and_labels(log_probabilities, labels)
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
    scores, labels = _as_scores_and_labels(probabilities, labels)
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
    confidence, right = as_aligned_arrays(confidence, right)
    bin_index = np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True)
    return float(np.abs(np.bincount(bin_index, weights=right - confidence)).sum() / len(right))


def _as_scores_and_labels(
    scores: ArrayLike, labels: ArrayLike
) -> tuple[Floats, NDArray[np.integer]]:
    """Scores ``(N, C)`` in float64 and labels ``(N,)`` that point into them."""
    scores, labels = as_aligned_arrays(scores, labels)
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise ValueError(
            f"labels lie between 0 and {scores.shape[1] - 1}, "
            f"found {labels.min()} to {labels.max()}"
        )
    return scores.astype(np.float64), labels
