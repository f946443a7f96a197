"""Metrics of regression."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from distill.metrics.base import Array, CountMetric, Floats, as_aligned_arrays


@CountMetric
def mean_squared_error(predictions: Array, targets: Array, counts: Floats) -> Floats:
    """Mean squared error of two arrays ``(N,)``.

    Called as ``mean_squared_error(predictions, targets) -> float``.

    Raises:
        ValueError: no examples, or arrays of different lengths.

    >>> mean_squared_error([1.0, 2.0], [1.0, 4.0])
    2.0
    """
    error = predictions.astype(np.float64) - targets
    mean: Floats = counts @ (error * error) / counts.sum(axis=1)
    return mean


@CountMetric
def correlation(predictions: Array, targets: Array, counts: Floats) -> Floats:
    """Pearson's linear correlation, 0 where one of the arrays is constant.

    :func:`pearson` in the form that the bootstrap and the permutation test are fast with. Called as
    ``correlation(predictions, targets) -> float`` with two arrays ``(N,)``.

    Raises:
        ValueError: no examples, or arrays of different lengths.

    >>> round(correlation([1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 5.0]), 4)
    0.8315
    >>> correlation([2.0, 2.0, 2.0], [1.0, 3.0, 2.0])
    0.0
    """
    # Centered and scaled first, so that the moments lose no digits and do not overflow.
    x, y = (array - array.mean() for array in (predictions.astype(float), targets.astype(float)))
    x, y = (array / max(np.abs(array).max(), np.finfo(float).tiny) for array in (x, y))
    moments = counts @ np.stack([x, y, x * x, y * y, x * y], axis=1)
    mean_x, mean_y, xx, yy, xy = (moments / counts.sum(axis=1, keepdims=True)).T
    spread_x, spread_y = xx - mean_x**2, yy - mean_y**2
    exists = (spread_x > 1e-14) & (spread_y > 1e-14)
    scale = np.sqrt(np.where(exists, spread_x * spread_y, 1.0))
    return np.where(exists, np.clip((xy - mean_x * mean_y) / scale, -1, 1), 0.0)


def pearson(predictions: ArrayLike, targets: ArrayLike) -> float:
    """Compute Pearson's linear correlation of two arrays ``(N,)``.

    NaN if one of them is constant, because the correlation is then undefined.

    Raises:
        ValueError: no examples, or arrays of different lengths.

    >>> round(pearson([1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 5.0]), 4)
    0.8315
    """
    x, y = (array.astype(np.float64) for array in as_aligned_arrays(predictions, targets))
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    x, y = x - x.mean(), y - y.mean()
    # Sums, not dot products: BLAS uses every core for these, and stalls if one is busy.
    return float((x * y).sum() / np.sqrt((x * x).sum()) / np.sqrt((y * y).sum()))


def spearman(predictions: ArrayLike, targets: ArrayLike) -> float:
    """Compute Spearman's rank correlation of two arrays ``(N,)``; ties have their average rank.

    NaN if one of them is constant.

    Raises:
        ValueError: no examples, or arrays of different lengths.

    >>> round(spearman([1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 3.0, 5.0]), 4)
    0.9487
    """
    return pearson(*(average_ranks(array) for array in as_aligned_arrays(predictions, targets)))


def average_ranks(values: Array) -> Floats:
    """Return the ranks, from 1, of an array ``(N,)``; ties have their average rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = np.cumsum(counts) - (counts - 1) / 2
    return ranks[inverse]
