"""Examples with a varying number of rows."""

import doctest

import numpy as np
import pytest

from distill.core import cache, jagged
from distill.core.jagged import JaggedArray, allocate_rows


@pytest.fixture
def array() -> JaggedArray:
    return JaggedArray(np.arange(12).reshape(6, 2), np.array([2, 0, 3, 1]))


def test_reads_rows_in_the_order_asked_for(array):
    assert len(array) == 4
    assert array.shape == (4, 2)
    assert array.row_indices([3, 0]).tolist() == [5, 0, 1]
    assert array[[3, 0]].tolist() == [[10, 11], [0, 1], [2, 3]]
    assert array[[]].shape == (0, 2)
    assert [rows.tolist() for rows in array.split()] == [
        [[0, 1], [2, 3]], [], [[4, 5], [6, 7], [8, 9]], [[10, 11]]
    ]  # fmt: skip


def test_selects_and_writes_examples(array):
    chosen = array.select([2, 1])
    assert chosen.counts.tolist() == [3, 0]
    assert chosen.values.tolist() == [[4, 5], [6, 7], [8, 9]]
    array[[3]] = np.array([[-1, -2]])
    assert array.values[5].tolist() == [-1, -2]
    assert chosen.values[0].tolist() == [4, 5]


def test_allocates_like_other_rows():
    values = np.zeros((1, 2), dtype=np.float16)
    rows = allocate_rows(None, 3, values)
    assert isinstance(rows, np.ndarray) and rows.shape == (3, 2) and rows.dtype == np.float16
    counts = np.array([2, 0, 3])
    jagged_rows = allocate_rows(counts, 3, values)
    assert isinstance(jagged_rows, JaggedArray)
    assert jagged_rows.values.shape == (5, 2)
    assert jagged_rows.counts.tolist() == [2, 0, 3]


def test_counts_must_sum_to_the_rows():
    with pytest.raises(AssertionError):
        JaggedArray(np.zeros(3), np.array([1, 1]))


@pytest.mark.parametrize("module", [cache, jagged])
def test_doctests(module):
    assert doctest.testmod(module).failed == 0
