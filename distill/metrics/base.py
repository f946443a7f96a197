"""What a metric is, and the form of it that the bootstrap computes on many samples at once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]
"""An array of any type."""
Floats = NDArray[np.float64]

MetricFunction = Callable[..., float]
"""``function(*arrays) -> float``, each array with the examples on axis 0, in any order."""


@dataclass(frozen=True)
class Metric:
    """A metric by name, with the direction in which it improves.

    Attributes:
        name: as reports and options spell it, ``accuracy`` for example.
        function: computes it from arrays that hold the examples on axis 0.
        higher_is_better: False for losses and errors such as perplexity.

    >>> Metric("error", lambda predictions, labels: 0.25, higher_is_better=False)([0], [1])
    0.25
    """

    name: str
    function: MetricFunction
    higher_is_better: bool = True

    def __call__(self, *arrays: ArrayLike) -> float:
        """Return the metric of these examples."""
        return self.function(*arrays)


class CountMetric:
    """A metric that depends on the examples only through how often each distinct one occurs.

    Decorates a function ``from_counts(*rows, counts)``: each of ``rows`` holds K distinct examples
    on axis 0, ``counts`` of shape ``(R, K)`` how often each of them occurs in each of R samples,
    and the result is the metric of the R samples. Every metric of a confusion matrix has this form.
    The bootstrap and the permutation test are fast because of it: they draw counts, and no metric
    iterates over single examples.

    The decorated name is called like any metric, ``metric(*arrays) -> float``.

    Raises:
        ValueError: on a call with no examples, or with arrays of different lengths.
    """

    __name__: str

    def __init__(self, from_counts: Callable[..., Floats]) -> None:
        functools.update_wrapper(self, from_counts)
        self.from_counts = from_counts

    def __call__(self, *arrays: ArrayLike) -> float:
        """Return the metric of these examples, each on axis 0 of every array."""
        rows = as_aligned_arrays(*arrays)
        return float(self.from_counts(*rows, np.ones((1, len(rows[0]))))[0])


def as_aligned_arrays(*arrays: ArrayLike) -> tuple[Array, ...]:
    """Convert the arguments to arrays that hold the same examples on axis 0.

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
