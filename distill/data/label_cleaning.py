"""Labels as sources write them: one spelling for each class, and rows that have none.

The same class is often written in several ways (``0`` and ``0.0``, Korean syllables composed and
decomposed), and a row without a label in many (nothing, ``-``, -1, ``nan``). A class is made of
neither; whatever is not certain is kept and noted.
"""

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unicodedata import category, is_normalized, normalize

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Value

from distill.core.errors import UserError
from distill.data.columns import arrow_column, distinct_values
from distill.data.schema import LABEL, DataSchema

# Texts that often stand for no label, in lower case; "-" is SNLI's.
NO_GOLD = "-"
_MARKS = frozenset(
    {
        "nan", "none", "null", "na", "n/a", "#n/a", "<na>", "nat", "--", "?", "\u2013", "\u2014",
        NO_GOLD,
    }
)  # fmt: skip
_NO_ID = "-1"
_NUMBER = re.compile(r"(-?)(0|[1-9]\d*)(?:\.(\d*))?")
# Fewer rows than these say nothing about whether a column is the label.
_FEW_ROWS = 10

SHOWN = 5


@dataclass(frozen=True)
class _Column:
    """Distinct labels of a split, and which row has which.

    Attributes:
        rows: the rows.
        values: the distinct labels as text; ``None``: missing.
        indices: index of each row's label, ``(N,)``.
        feature: type of a label.
    """

    rows: Dataset
    values: list[str | None]
    indices: np.ndarray
    feature: Any

    @classmethod
    def of(cls, rows: Dataset) -> "_Column":
        values, indices = distinct_values(rows, LABEL)
        feature = rows.features[LABEL]
        if hasattr(feature, "names"):
            texts = [None if value is None or value < 0 else str(value) for value in values]
        else:
            texts = [label_text(value) for value in values]
        return cls(rows, texts, indices, feature)

    @property
    def counts(self) -> Counter[str | None]:
        counts: Counter[str | None] = Counter()
        for value, count in zip(
            self.values, np.bincount(self.indices, minlength=len(self.values)), strict=True
        ):
            counts[value] += int(count)
        return counts

    def without(self, missing: Collection[str | None]) -> "_Column":
        """Return the rows whose labels are none of these."""
        kept = np.array([value not in missing for value in self.values], dtype=bool)[self.indices]
        chosen = np.flatnonzero(kept)
        return _Column(self.rows.select(chosen), self.values, self.indices[chosen], self.feature)

    def respelled(self, spelling: Mapping[str, str]) -> Dataset:
        """Return the rows with their labels as text in another spelling."""
        texts = [None if value is None else spelling.get(value, value) for value in self.values]
        labels = pa.array(texts, pa.string()).take(pa.array(self.indices))
        rows = self.rows.remove_columns(LABEL)
        return rows.add_column(LABEL, pa.chunked_array([labels]), feature=Value("string"))


def label_text(value: Any) -> str | None:
    """Return a label as text; ``None`` if there is none: nothing, NaN or white space."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    text = str(value)
    return text if text.strip() else None


def plain_number(text: str) -> str | None:
    """Return the shortest spelling of a decimal number, ``1`` for ``1.0``; ``None`` if it is none.

    Codes with leading zeros and numbers with exponents are no numbers here.
    """
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        return None
    fraction = (match[3] or "").rstrip("0")
    number = f"{match[2]}.{fraction}" if fraction else match[2]
    return number if number == "0" else match[1] + number


def clean_labels(
    splits: Mapping[str, Dataset],
    schema: DataSchema,
    drop_unlabeled: bool | None,
    notes: list[str],
) -> dict[str, Dataset]:
    """Return the splits with one spelling for each class and without rows that have no label.

    Lists of labels keep their rows: an empty list is an answer.

    Args:
        splits: rows with the column ``label``; ``train`` among them.
        schema: the task's; whether its labels are classes decides on what is a spelling.
        drop_unlabeled: see :class:`~distill.data.sources.base.DataSource`.
        notes: what was changed or left out is appended.

    Raises:
        UserError: if no row of a split is left, or the column holds an identifier or a score
            rather than classes.
    """
    if LABEL not in splits["train"].column_names:
        return dict(splits)
    if any(_is_nested(rows.features[LABEL]) for rows in splits.values()):
        return _clean_lists(splits, schema, drop_unlabeled, notes)
    columns = {split: _Column.of(rows) for split, rows in splits.items()}
    counts = {split: column.counts for split, column in columns.items()}
    total = sum(counts.values(), Counter())
    missing = _missing_values(total, columns["train"].feature, schema, drop_unlabeled)
    if schema.categorical:
        _note_marks(total, missing, drop_unlabeled, notes)
    for split, column in columns.items():
        found = {value: counts[split][value] for value in missing if counts[split][value]}
        if not found:
            continue
        columns[split] = column.without(missing)
        count = sum(found.values())
        if not len(columns[split].rows):
            raise UserError(f"no row of {split} has a label")
        written = ", ".join(f"'{value}'" for value in found if value is not None)
        notes.append(
            f"{count} rows of {split} without a label{f' ({written})' if written else ''} were "
            "left out."
        )
    if not schema.categorical:
        return {split: column.rows for split, column in columns.items()}
    if not hasattr(columns["train"].feature, "names"):
        check_is_label(columns["train"].counts, len(columns["train"].rows), schema)
    return _respell(columns, notes)


def check_is_label(counts: Mapping[str | None, int], rows: int, schema: DataSchema) -> None:
    """Raise a ``UserError`` if labels are as many as rows, as identifiers, texts and scores are."""
    labels = [value for value in counts if value is not None]
    if rows < _FEW_ROWS or len(labels) <= rows / 2:
        return
    examples = ", ".join(repr(label) for label in sorted(labels)[:3])
    hint = ""
    if all(_is_float(label) for label in labels):
        hint = "; task=regression is for numbers"
    raise UserError(
        f"{len(labels)} different labels in {rows} rows of train ({examples[:80]}, ...): is this "
        f"the label? data.label=... names its column{hint}"
    )


def has_no_labels(rows: Dataset, label: str = LABEL) -> bool:
    """Return whether no row has a label, in whatever way that is written.

    Args:
        rows: rows of one split.
        label: their column of labels; without it, none are missing.
    """
    if label not in rows.column_names:
        return False
    column = arrow_column(rows, label)
    is_list = False
    while pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        column, is_list = pc.list_flatten(column), True
    if pa.types.is_nested(column.type):
        return is_list and len(column) == 0
    return all(_may_be_missing(label_text(value)) for value in pc.unique(column).to_pylist())


def spelling_notes(names: Sequence[str]) -> list[str]:
    """Return a note on classes whose names look alike."""
    alike: dict[str, list[str]] = {}
    for name in names:
        visible = "".join(letter for letter in normalize("NFKC", name) if category(letter) != "Cf")
        alike.setdefault(" ".join(visible.split()).casefold(), []).append(name)
    groups = [group for group in alike.values() if len(group) > 1]
    if not groups:
        return []
    shown = "; ".join(" and ".join(map(repr, group)) for group in groups[:SHOWN])
    return [
        f"Names of classes that differ in case, white space or width only are different classes: "
        f"{shown}."
    ]


def composed(text: str) -> str:
    """Return a text in Unicode's composed form (NFC)."""
    return text if text.isascii() else normalize("NFC", text)


def _respell(columns: Mapping[str, _Column], notes: list[str]) -> dict[str, Dataset]:
    """Give each class one spelling, across all splits."""
    if any(hasattr(column.feature, "names") for column in columns.values()):
        return {split: column.rows for split, column in columns.items()}
    values = {value for column in columns.values() for value in column.values if value is not None}
    spelling = _spelling(values, notes)
    result = {}
    for split, column in columns.items():
        changed = any(value in spelling for value in column.values)
        # Missing labels are null, however they are written.
        result[split] = (
            column.respelled(spelling) if changed or None in column.values else column.rows
        )
    return result


def _spelling(values: Collection[str], notes: list[str]) -> dict[str, str]:
    """Return the spelling of the labels that are written otherwise."""
    decomposed = {value: composed(value) for value in values if not is_normalized("NFC", value)}
    if decomposed:
        notes.append(
            f"{len(decomposed)} labels are written in Unicode's decomposed form (NFD), as on a "
            f"Mac, and are read as the same in the composed form "
            f"({', '.join(sorted(set(decomposed.values()))[:SHOWN])})."
        )
    numbers = {value: plain_number(value) for value in values}
    if not all(numbers.values()):
        return decomposed
    changed = {value: number for value, number in numbers.items() if number and number != value}
    merged = [value for value, number in changed.items() if number in values]
    if merged:
        shown = ", ".join(f"{value} as {changed[value]}" for value in sorted(merged)[:SHOWN])
        notes.append(f"Labels that are the same number are the same class: {shown}.")
    return changed


def _missing_values(
    counts: Mapping[str | None, int],
    feature: Any,
    schema: DataSchema,
    drop_unlabeled: bool | None,
) -> set[str | None]:
    """Return the labels that stand for none."""
    if drop_unlabeled is False:
        return set()
    if drop_unlabeled:
        return {
            value
            for value in counts
            if value is None or (schema.categorical and _may_be_missing(value))
        }
    if not schema.categorical:
        return set()
    if hasattr(feature, "names"):
        return {None}  # the hub's -1
    labels = {value for value in counts if value is not None}
    others = {value for value in labels if not _may_be_missing(value)}
    numbers = {value: plain_number(value) for value in labels}
    no_ids: set[str | None] = {value for value, number in numbers.items() if number == _NO_ID}
    if NO_GOLD in labels and "+" not in labels and len(others) > 1:
        return {NO_GOLD}
    # Among ids; but -1, 0, 1 are a scale, and -1, 1 two classes.
    ids = {numbers[value] for value in labels - no_ids}
    if no_ids and len(ids) > 2 and all(number and number.isdigit() for number in ids):
        return no_ids
    return set()


def _note_marks(
    counts: Mapping[str | None, int],
    missing: Collection[str | None],
    drop_unlabeled: bool | None,
    notes: list[str],
) -> None:
    """Note classes that may stand for missing labels."""
    if drop_unlabeled is not None:
        return
    kept = [value for value in counts if value and _may_be_missing(value) and value not in missing]
    labels = {plain_number(value or "") for value in counts}
    if labels == {"-1", "1"} or {"+", "-"} <= set(counts):
        kept = [value for value in kept if plain_number(value) != _NO_ID and value != NO_GOLD]
    if kept:
        written = ", ".join(f"'{value}' ({counts[value]} rows)" for value in sorted(kept))
        notes.append(
            f"The label {written} is read as a class; if it means that there is none, "
            "data.drop_unlabeled=true leaves such rows out."
        )


def _may_be_missing(value: str | None) -> bool:
    return value is None or value.strip().lower() in _MARKS or plain_number(value.strip()) == _NO_ID


def _clean_lists(
    splits: Mapping[str, Dataset],
    schema: DataSchema,
    drop_unlabeled: bool | None,
    notes: list[str],
) -> dict[str, Dataset]:
    """Spell the classes in lists of labels, and leave out rows without a list."""
    result = dict(splits)
    if drop_unlabeled:
        for split, rows in splits.items():
            kept = np.flatnonzero([_has_labels(value) for value in rows[LABEL][:]])
            if len(kept) < len(rows):
                if not len(kept):
                    raise UserError(f"no row of {split} has a label")
                notes.append(
                    f"{len(rows) - len(kept)} rows of {split} without a label were left out."
                )
                result[split] = rows.select(kept)
    if not schema.categorical or not all(
        getattr(getattr(rows.features[LABEL], "feature", None), "dtype", "").endswith("string")
        for rows in splits.values()
    ):
        return result
    values: set[str] = set()
    for rows in result.values():
        flat = pc.unique(pc.list_flatten(arrow_column(rows, LABEL)))
        values |= {value for value in flat.to_pylist() if value}
    spelling = _spelling(values, notes)
    if not spelling:
        return result
    for split, rows in result.items():
        labels = [
            labels and [value and spelling.get(value, value) for value in labels]
            for labels in rows[LABEL][:]
        ]
        feature = rows.features[LABEL]
        array = pa.chunked_array([pa.array(labels, pa.list_(pa.string()))])
        result[split] = rows.remove_columns(LABEL).add_column(LABEL, array, feature=feature)
    return result


def _has_labels(value: Any) -> bool:
    if isinstance(value, list) and value:
        return not all(label_text(item) is None for item in value)
    return value is not None


def _is_nested(feature: Any) -> bool:
    return isinstance(feature, Mapping) or hasattr(feature, "feature")


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
