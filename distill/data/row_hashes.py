"""Hashes of rows by their inputs."""

import hashlib

import numpy as np
from datasets import Dataset

from distill.data.columns import iter_chunks
from distill.data.schema import DataSchema


def row_hashes(rows: Dataset, schema: DataSchema) -> tuple[np.ndarray, list[int]]:
    """Hash the inputs of each row.

    Returns:
        64 bits of SHA-256 per row, ``(N,)``, and the indices of rows with an empty input, whose
        hash is 0.
    """
    inputs = {role: kind for role, kind in schema.inputs.items() if role in rows.column_names}
    hashes, empty = np.zeros(len(rows), dtype=np.uint64), []
    for start, chunk in iter_chunks(rows, list(inputs)):
        for row, values in enumerate(zip(*(chunk[role] for role in inputs), strict=True), start):
            typed = list(zip(inputs.values(), values, strict=True))
            if any(kind.is_empty(value) for kind, value in typed):
                empty.append(row)
                continue
            content = "\x1f".join(kind.key(value) for kind, value in typed)
            digest = hashlib.sha256(content.encode()).digest()
            hashes[row] = int.from_bytes(digest[:8], "little")
    return hashes, empty


def near_duplicate_keys(rows: Dataset, schema: DataSchema) -> tuple[np.ndarray, np.ndarray]:
    """Return keys that are equal for inputs that differ in case and white space only.

    Returns:
        64 bits of SHA-256 per row, ``(N,)``, and whether any input of the row is empty, ``(N,)``.
    """
    inputs = {role: kind for role, kind in schema.inputs.items() if role in rows.column_names}
    keys, empty = np.empty(len(rows), dtype=np.uint64), np.zeros(len(rows), dtype=bool)
    for start, chunk in iter_chunks(rows, list(inputs)):
        for row, values in enumerate(zip(*(chunk[role] for role in inputs), strict=True), start):
            contents = [
                "" if kind.is_empty(value) else " ".join(kind.key(value).split()).casefold()
                for kind, value in zip(inputs.values(), values, strict=True)
            ]
            digest = hashlib.sha256("\x1f".join(contents).encode()).digest()
            keys[row] = int.from_bytes(digest[:8], "little")
            empty[row] = not all(contents)
    return keys, empty
