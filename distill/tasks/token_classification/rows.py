"""Lists of several lengths as flat arrays."""

from collections.abc import Sequence
from itertools import chain

import numpy as np


def flatten_rows(rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Concatenate rows.

    Returns:
        All values ``(W,)``, which of them begin a row ``(W,)``, and the length of each row
        ``(N,)``.
    """
    counts = np.fromiter(map(len, rows), np.int64, len(rows))
    values = np.fromiter(chain.from_iterable(rows), np.int64, counts.sum())
    begins = np.zeros(len(values), dtype=bool)
    begins[(np.cumsum(counts) - counts)[counts > 0]] = True
    return values, begins, counts
