"""Lists of labels from the forms that they come in: text, a column each, ones and zeros."""

import ast
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, List, Value

from distill.core.errors import UserError
from distill.data.columns import iter_chunks, iter_values
from distill.data.schema import LABEL
from distill.data.sources.base import DataSource
from distill.data.values import parse_flag

LABEL_SEPARATOR = ","
"""Usual separator of the labels of one example in text columns."""
# Separators that are noted if labels hold them and not the one that is used.
_OTHER_SEPARATORS = (";", "|", "\t", "/", ",")
_CHUNK_ROWS = 10_000
# Value of an example that was not labeled, as in Jigsaw's test set.
_NOT_LABELED = "-1"


def label_lists(split: str, rows: Dataset, source: DataSource, notes: list[str]) -> Dataset:
    """Turn labels in one text column, as csv has them, into lists; empty text is an empty list.

    A text may also be a list itself (``['a', 'b']``), as pandas writes a column of lists. Lists of
    ones and zeros, one for each class, become lists of the classes whose place holds a one.

    Args:
        split: name of the split.
        rows: rows with the column ``label``.
        source: its ``label_separator`` separates labels in text, its ``labels`` name places.
        notes: a separator that labels seem to have, or what ones and zeros were taken for.

    Raises:
        UserError: for a text that begins as a list and is none.
    """
    feature = rows.features[LABEL]
    if hasattr(feature, "feature"):
        return _from_indicators(split, rows, source, notes)
    if getattr(feature, "dtype", None) not in ("string", "large_string"):
        return rows
    separator = source.label_separator or LABEL_SEPARATOR
    labels = [
        pa.array(
            [
                None if text is None else _split_text(split, row, text, separator)
                for row, text in enumerate(chunk[LABEL], start)
            ],
            pa.list_(pa.string()),
        )
        for start, chunk in iter_chunks(rows, [LABEL], _CHUNK_ROWS)
    ]
    result = pa.chunked_array(labels, pa.list_(pa.string()))
    if source.label_separator is None:
        _note_separator(split, result, notes)
    rows = rows.remove_columns(LABEL).add_column(LABEL, result, feature=List(Value("string")))
    return _from_indicators(split, rows, source, notes)


def lists_from_columns(split: str, rows: Dataset, columns: Sequence[str]) -> pa.ChunkedArray:
    """Return the classes of each row from a column of 0 and 1 for each class.

    A row with -1 in every column was not labeled: it has no list.

    Args:
        split: name of the split.
        rows: rows with the columns.
        columns: names of the classes.

    Raises:
        UserError: for a value that is neither 0 nor 1.
    """
    chunks = []
    for start, chunk in iter_chunks(rows, columns, _CHUNK_ROWS):
        lists: list[list[str] | None] = []
        for row, values in enumerate(zip(*(chunk[name] for name in columns), strict=True), start):
            if all(str(value).strip() in (_NOT_LABELED, "-1.0") for value in values):
                lists.append(None)
                continue
            where = f"{split} row {row + 1} has in the column of the class"
            present = [
                name
                for name, value in zip(columns, values, strict=True)
                if _parse_indicator(value, f"{where} {name}")
            ]
            lists.append(present)
        chunks.append(pa.array(lists, pa.list_(pa.string())))
    return pa.chunked_array(chunks, pa.list_(pa.string()))


def _parse_indicator(value: Any, where: str) -> bool:
    if value is None or str(value).strip() == "":
        raise UserError(f"{where} no value: 0 or 1 is wanted")
    try:
        return parse_flag(value, where)
    except UserError:
        raise UserError(f"{where} '{value}', which is neither 0 nor 1") from None


def _split_text(split: str, row: int, text: str, separator: str) -> list[str]:
    stripped = text.strip()
    if not (stripped.startswith("[") and stripped.endswith("]")):
        return [part.strip() for part in text.split(separator) if part.strip()]
    for parse in (json.loads, ast.literal_eval):
        try:
            values = parse(stripped)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(values, list) and not any(
            isinstance(value, list | dict | tuple | set) for value in values
        ):
            return [str(value) for value in values]
    raise UserError(
        f"{split} row {row + 1} has the labels {text[:40]!r}, which look like a list and are none "
        "(such as ['a', 'b'])"
    )


def _note_separator(split: str, labels: pa.ChunkedArray, notes: list[str]) -> None:
    distinct = {label for labels in _lists(labels) for label in labels or ()}
    for separator in _OTHER_SEPARATORS:
        parts = {label: label.split(separator) for label in distinct if separator in label}
        known = [
            label for label, pieces in parts.items()
            if separator == ";" or separator == "|" or all(p.strip() in distinct for p in pieces)
        ]  # fmt: skip
        if known:
            shown = separator if separator != "\t" else "\\t"
            notes.append(
                f"{len(known)} labels of {split} hold a '{shown}' ({sorted(known)[0]}) and are one "
                f"class each: data.label_separator='\"{shown}\"' separates there."
            )
            return


def _from_indicators(split: str, rows: Dataset, source: DataSource, notes: list[str]) -> Dataset:
    """Turn lists of ones and zeros, one for each class, into lists of classes."""
    lengths, repeated = set(), False
    for labels in iter_values(rows, LABEL):
        if labels is None:
            continue
        lengths.add(len(labels))
        if len(lengths) > 1 or any(str(label) not in ("0", "1", "0.0", "1.0") for label in labels):
            return rows
        repeated |= len(set(labels)) < len(labels)
    count = next(iter(lengths), 0)
    # The ids of classes never repeat in a list.
    if not repeated or count < 2:
        return rows
    names = [str(name) for name in source.labels or range(count)]
    if len(names) != count:
        raise UserError(
            f"the labels of {split} are {count} ones and zeros each, and data.labels names "
            f"{len(names)} classes"
        )
    notes.append(
        f"The labels of {split} are lists of {count} ones and zeros: each place is a class."
    )
    lists = [
        None
        if labels is None
        else [names[place] for place in np.flatnonzero([float(label) for label in labels])]
        for labels in iter_values(rows, LABEL)
    ]
    array = pa.chunked_array([pa.array(lists, pa.list_(pa.string()))])
    return rows.remove_columns(LABEL).add_column(LABEL, array, feature=List(Value("string")))


def _lists(labels: pa.ChunkedArray) -> Iterator[list[str] | None]:
    for chunk in labels.chunks:
        yield from chunk.to_pylist()
