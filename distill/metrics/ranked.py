"""Accuracy of the first of several guesses and of any of five, from one number an example.

The number holds the predicted class and whether the true one is among the five likeliest. So the
bootstrap counts equal examples, as it does with predicted classes alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from distill.metrics.base import Array, CountMetric, Floats, MetricFunction

GUESSES = 5


def ranked_codes(logits: ArrayLike, labels: ArrayLike) -> NDArray[np.int64]:
    """Return ``2 * predicted + hit`` of each example, ``(N, C)`` and ``(N,)`` -> ``(N,)``.

    A hit has fewer than five classes with a larger logit than the true one, or with the same and a
    smaller id, as an order of the logits that keeps equal ones in place has it.

    >>> ranked_codes([[3.0, 2.0, 1.0, 0.5, 0.2, 0.1]], [5])
    array([0])
    >>> ranked_codes([[3.0, 2.0, 1.0, 0.5, 0.2, 0.1]], [4])
    array([1])
    """
    scores, true = np.asarray(logits), np.asarray(labels)
    own = scores[np.arange(len(true)), true][:, None]
    before = np.arange(scores.shape[1]) < true[:, None]
    rank = ((scores > own) | ((scores == own) & before)).sum(axis=1)
    codes: NDArray[np.int64] = 2 * scores.argmax(axis=1) + (rank < GUESSES)
    return codes


@CountMetric
def top_5_accuracy(codes: Array, labels: Array, counts: Floats) -> Floats:
    """Fraction of the examples whose label is among the five likeliest classes.

    Called as ``top_5_accuracy(codes, labels) -> float`` with what :func:`ranked_codes` returns.

    Raises:
        ValueError: no examples, or arrays of different lengths.

    >>> top_5_accuracy([0, 1, 3, 2], [5, 4, 1, 1])
    0.5
    """
    fraction: Floats = counts @ (codes % 2) / counts.sum(axis=1)
    return fraction


def of_predictions(metric: MetricFunction) -> CountMetric:
    """Return a metric of predicted classes as one of what :func:`ranked_codes` returns."""
    assert isinstance(metric, CountMetric)

    def from_counts(codes: Array, labels: Array, counts: Floats) -> Any:
        return metric.from_counts(codes // 2, labels, counts)

    return CountMetric(from_counts)
