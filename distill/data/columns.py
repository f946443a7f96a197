"""Whole columns of a split, without a Python object for each of a million rows."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset


def iter_chunks(
    rows: Dataset, columns: Sequence[str], size: int = 10_000
) -> Iterator[tuple[int, dict[str, list]]]:
    """So many rows at a time as plain lists, and at which row each piece starts."""
    selected = rows.select_columns(list(columns))
    for start in range(0, len(rows), size):
        yield start, selected[start : start + size]


def iter_values(rows: Dataset, column: str) -> Iterator[Any]:
    """One value after another; much faster than to iterate over ``rows[column]``."""
    for _, piece in iter_chunks(rows, [column]):
        yield from piece[column]


def numeric_column(rows: Dataset, column: str) -> np.ndarray:
    """A column of numbers, ``(N,)``, or of lists of C numbers each, ``(N, C)``."""
    rows = getattr(rows, "first", rows)  # of several teachers' the first one's
    if not isinstance(rows, Dataset):
        return np.asarray(rows[column])
    chunks = arrow_column(rows, column)
    if not pa.types.is_nested(chunks.type):
        return chunks.to_numpy()
    return pc.list_flatten(chunks).to_numpy().reshape(len(rows), -1)


def distinct_values(rows: Dataset, column: str) -> tuple[list, np.ndarray]:
    """The values that occur (``None`` is one too), and which of them each row has, ``(N,)``."""
    chunks = arrow_column(rows, column).combine_chunks()
    encoded = pc.dictionary_encode(chunks, null_encoding="encode")
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy(zero_copy_only=False)


def describe_type(feature: Any) -> str:
    """What a column of this type holds, for messages."""
    if hasattr(feature, "feature"):
        return f"lists of {describe_type(feature.feature)}"
    return getattr(feature, "dtype", "records")


def content_hash(rows: Dataset) -> str:
    """Hash of everything that rows hold and of their order; equal for equal files read alike.

    The bytes are hashed as Arrow stores them: a gigabyte takes a second, and none of it is copied.
    """
    digest = hashlib.blake2b(str(rows.features).encode(), digest_size=16)
    for table in (rows.data.table, rows._indices and rows._indices.table):
        if table is not None:
            plain = table.replace_schema_metadata(None)
            with pa.ipc.new_stream(
                pa.PythonFile(_HashingFile(digest), "w"), plain.schema
            ) as stream:
                stream.write_table(plain)
    return digest.hexdigest()


class _HashingFile:
    """A file that keeps nothing of what is written but its hash."""

    closed = False

    def __init__(self, digest):
        self.digest = digest

    def write(self, content) -> int:
        self.digest.update(content)
        return len(content)

    def flush(self) -> None: ...

    def close(self) -> None: ...


def arrow_column(rows: Dataset, column: str) -> pa.ChunkedArray:
    """A column as it is stored, none of it turned into Python's own objects."""
    chunks = rows.data.table.column(column)
    # datasets would gather them row by row, each a chunk of its own.
    return chunks if rows._indices is None else chunks.take(rows._indices.table.column(0))
