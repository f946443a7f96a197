"""distill.metrics.regression"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from distill.metrics.base import CountMetric, Floats, as_aligned_arrays


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
    x, y = (array.astype(np.float64) for array in as_aligned_arrays(predictions, targets))
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
    return pearson(*(average_ranks(array) for array in as_aligned_arrays(predictions, targets)))


def average_ranks(values: NDArray) -> Floats:
    """Ranks from 1 of an array ``(N,)``; equal values share their average rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]
