"""Examples of several rows each: what a token-level task has where others have one an example."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class JaggedArray:
    """N examples, the i-th with so many rows, one after another in one array.

    Args:
        values: ``(U, ...)``, memory-mapped or not.
        counts: rows of each example, ``(N,)``; they sum to U.
    """

    def __init__(self, values: NDArray, counts: NDArray[np.integer]):
        self.values, self.counts = values, np.asarray(counts, dtype=np.int64)
        self.starts = np.concatenate([[0], np.cumsum(self.counts)])
        assert self.starts[-1] == len(values)

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the values; the number of examples stands for their rows."""
        return (len(self), *self.values.shape[1:])

    def rows(self, indices: Sequence[int]) -> NDArray[np.int64]:
        """Where the rows of some examples stand, in the examples' order."""
        if not len(indices):
            return np.empty(0, dtype=np.int64)
        return np.concatenate(
            [np.arange(self.starts[index], self.starts[index + 1]) for index in indices]
        )

    def __getitem__(self, indices: Sequence[int]) -> NDArray:
        """The rows of some examples, one after another: ``(U', ...)``."""
        return self.values[self.rows(indices)]

    def __setitem__(self, indices: Sequence[int], values: NDArray) -> None:
        self.values[self.rows(indices)] = values

    def select(self, indices: Sequence[int]) -> "JaggedArray":
        """Some of the examples."""
        return JaggedArray(self[indices], self.counts[np.asarray(indices, dtype=np.int64)])

    def each(self) -> list[NDArray]:
        """Every example's rows."""
        return np.split(self.values, self.starts[1:-1])


ArrayOrJagged = NDArray | JaggedArray
"""One row an example, ``(N, ...)``, or several; ``rows[indices]`` reads either."""


def allocate_rows(
    counts: NDArray[np.integer] | None, number: int, values: NDArray
) -> ArrayOrJagged:
    """Room for the rows of ``number`` examples like these.

    Args:
        counts: rows of each; ``None``: one row each.
        number: of examples.
        values: some rows, for their shape and type.
    """
    total = number if counts is None else int(counts.sum())
    room = np.empty((total, *values.shape[1:]), dtype=values.dtype)
    return room if counts is None else JaggedArray(room, counts)
