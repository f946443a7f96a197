"""Arrays of examples with a varying number of rows, such as the tokens of a sentence."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class JaggedArray:
    """N examples with a varying number of rows, concatenated in one array.

    Args:
        values: rows of all examples, ``(U, ...)``, memory-mapped or not.
        counts: number of rows of each example, ``(N,)``; they sum to U.

    Attributes:
        starts: index of each example's first row, and U at the end, ``(N + 1,)``.

    >>> array = JaggedArray(np.array([1, 2, 3]), np.array([2, 0, 1]))
    >>> array.split()
    [array([1, 2]), array([], dtype=int64), array([3])]
    """

    def __init__(self, values: Array, counts: NDArray[np.integer]):
        self.values, self.counts = values, np.asarray(counts, dtype=np.int64)
        self.starts = np.concatenate([[0], np.cumsum(self.counts)])
        assert self.starts[-1] == len(values)

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the values, with the number of examples instead of rows: ``(N, ...)``."""
        return (len(self), *self.values.shape[1:])

    def row_indices(self, indices: Sequence[int]) -> NDArray[np.int64]:
        """Return where the rows of some examples are in ``values``, in the examples' order."""
        if not len(indices):
            return np.empty(0, dtype=np.int64)
        return np.concatenate(
            [np.arange(self.starts[index], self.starts[index + 1]) for index in indices]
        )

    def __getitem__(self, indices: Sequence[int]) -> Array:
        """Return the concatenated rows of some examples, ``(U', ...)``."""
        return self.values[self.row_indices(indices)]

    def __setitem__(self, indices: Sequence[int], values: Array) -> None:
        self.values[self.row_indices(indices)] = values

    def select(self, indices: Sequence[int]) -> "JaggedArray":
        """Return some of the examples."""
        return JaggedArray(self[indices], self.counts[np.asarray(indices, dtype=np.int64)])

    def split(self) -> list[Array]:
        """Return the rows of each example."""
        return np.split(self.values, self.starts[1:-1])


ArrayOrJagged = Array | JaggedArray
"""One row per example, ``(N, ...)``, or several; both are read with ``rows[indices]``."""


def allocate_rows(counts: NDArray[np.integer] | None, number: int, values: Array) -> ArrayOrJagged:
    """Return uninitialized rows of several examples.

    Args:
        counts: number of rows of each example; ``None``: one row per example, not jagged.
        number: number of examples.
        values: any rows, for their shape and type.
    """
    total = number if counts is None else int(counts.sum())
    rows = np.empty((total, *values.shape[1:]), dtype=values.dtype)
    return rows if counts is None else JaggedArray(rows, counts)
