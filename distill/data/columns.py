"""Access to whole columns of a split without a Python object for each row."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Features, disable_caching, enable_caching, is_caching_enabled


def iter_chunks(
    rows: Dataset, columns: Sequence[str], size: int = 10_000
) -> Iterator[tuple[int, dict[str, list]]]:
    """Yield at most ``size`` rows at a time as plain lists, and the index of the first of them."""
    selected = rows.select_columns(list(columns))
    for start in range(0, len(rows), size):
        yield start, selected[start : start + size]


def iter_values(rows: Dataset, column: str) -> Iterator[Any]:
    """Yield the values of a column; much faster than iterating over ``rows[column]``."""
    for _, chunk in iter_chunks(rows, [column]):
        yield from chunk[column]


def numeric_column(rows: Dataset, column: str) -> np.ndarray:
    """Return a column of numbers, ``(N,)``, or of lists of C numbers each, ``(N, C)``."""
    rows = getattr(rows, "first", rows)  # of an ensemble: those of the first member
    if not isinstance(rows, Dataset):
        return np.asarray(rows[column])
    chunks = arrow_column(rows, column)
    if not pa.types.is_nested(chunks.type):
        return chunks.to_numpy()
    return pc.list_flatten(chunks).to_numpy().reshape(len(rows), -1)


def distinct_values(rows: Dataset, column: str) -> tuple[list, np.ndarray]:
    """Return the distinct values, with ``None``, and the index of each row's value, ``(N,)``."""
    chunks = arrow_column(rows, column).combine_chunks()
    encoded = pc.dictionary_encode(chunks, null_encoding="encode")
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy(zero_copy_only=False)


def describe_type(feature: Any) -> str:
    """Describe the content of a column in words, for messages."""
    if hasattr(feature, "feature"):
        return f"lists of {describe_type(feature.feature)}"
    return str(getattr(feature, "dtype", "records"))


def content_hash(rows: Dataset) -> str:
    """Return a hash of the content and order of rows.

    The bytes are hashed as Arrow stores them: a gigabyte takes a second, and nothing is copied.
    """
    digest = hashlib.blake2b(str(rows.features).encode(), digest_size=16)
    for table in (rows.data.table, rows._indices and rows._indices.table):
        if table is not None:
            content = table.replace_schema_metadata(None)
            with pa.ipc.new_stream(
                pa.PythonFile(_HashingFile(digest), "w"), content.schema
            ) as stream:
                stream.write_table(content)
    return digest.hexdigest()


def cast_rows(rows: Dataset, features: Features) -> Dataset:
    """Return rows with their columns converted to other types.

    ``datasets`` would keep the result beside the file that the rows come from, and map it again
    without looking whether it is whole: here it lasts as long as this process.
    """
    if rows.features == features:
        return rows
    enabled = is_caching_enabled()
    disable_caching()
    try:
        return rows.cast(features)
    finally:
        if enabled:
            enable_caching()


class _HashingFile:
    """A file that hashes what is written to it and discards it."""

    closed = False

    def __init__(self, digest: hashlib.blake2b):
        self.digest = digest

    def write(self, content: bytes) -> int:
        self.digest.update(content)
        return len(content)

    def flush(self) -> None: ...

    def close(self) -> None: ...


def arrow_column(rows: Dataset, column: str) -> pa.ChunkedArray:
    """Return a column as it is stored, without converting it to Python objects."""
    chunks = rows.data.table.column(column)
    # datasets itself would gather selected rows one by one, each as a chunk.
    return chunks if rows._indices is None else chunks.take(rows._indices.table.column(0))
