"""Assignment of splits, and splits cut from train by a fixed rule."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from distill.core.errors import UserError
from distill.data.columns import arrow_column, iter_values
from distill.data.label_cleaning import has_no_labels
from distill.data.schema import LABEL, DataSchema
from distill.data.sources.base import DataSource

SPLITS = ("train", "validation", "test")
# Size of a split that is cut from train: a fraction of train, and a maximum number of examples.
HELD_OUT_SHARE, MAX_HELD_OUT = 0.1, 2000

HashedRows = tuple[Dataset, np.ndarray]
"""Rows and the hash of each row's inputs, ``(N,)``."""


def drop_unlabeled_splits(splits: Mapping[str, Dataset], notes: list[str]) -> dict[str, Dataset]:
    """Return the splits without a validation or test split that has no labels at all.

    Args:
        splits: rows by split.
        notes: what was left out is appended.
    """
    kept = dict(splits)
    for split in ("validation", "test"):
        if split in kept and has_no_labels(kept[split]):
            del kept[split]
            use = "evaluated" if split == "test" else "used"
            notes.append(f"The {split} split has no labels and is not {use}.")
    return kept


def complete_splits(
    splits: Mapping[str, HashedRows], source: DataSource, schema: DataSchema, notes: list[str]
) -> tuple[dict[str, HashedRows], str]:
    """Return all three splits and the name of the one that is evaluated.

    Validation serves as test where there is none, and what is then missing is cut from train:
    rows in the order of a hash, of each class at most half, so that rare classes stay in train;
    of schemas with :attr:`.DataSchema.group_by` whole groups, in the order of a hash of what they
    share. Train is in the order of the hash of its rows, and not limited yet.

    Args:
        splits: the splits that the source has.
        source: its ``limit`` bounds a validation split that is cut.
        schema: the task's.
        notes: what was done is appended.
    """
    splits = dict(splits)
    evaluated_on = "test"
    if "test" not in splits and "validation" in splits:
        splits["test"] = splits.pop("validation")
        evaluated_on = "validation"
        notes.append("There is no labeled test split: the validation split serves as one.")
    train, hashes = splits["train"]
    order = np.argsort(hashes, kind="stable")
    cut = _Cut(train, schema)
    for split in ("test", "validation"):
        if split in splits:
            continue
        count = min(int(len(train) * HELD_OUT_SHARE), MAX_HELD_OUT)
        if split == "validation" and source.limit is not None:
            count = min(count, max(200, source.limit // 10))
        chosen = cut.choose(order, count)
        if not len(chosen):
            raise UserError(
                f"{len(train)} training examples are too few to cut a {split} split from"
            )
        splits[split] = train.select(chosen), hashes[chosen]
        order = order[~np.isin(order, chosen)]
        shared = (
            schema.inputs_are.removesuffix("s")
            if cut.groups is None
            else f"{schema.group_by}, all with the same together"
        )
        notes.append(
            f"There is no {split} split: {len(chosen)} examples were cut from train, chosen by a "
            f"hash of their {shared}."
        )
    if len(order) < len(train):
        notes += cut.notes()
    splits["train"] = train.select(order), hashes[order]
    return {split: splits[split] for split in SPLITS}, evaluated_on


def limit_train(train: HashedRows, source: DataSource, notes: list[str]) -> HashedRows:
    """Return at most ``data.limit`` training rows: the first by the hash, or a random subset."""
    rows, hashes = train
    if source.limit is None or source.limit >= len(rows):
        return train
    notes.append(f"{source.limit} of {len(rows)} training examples are used (data.limit).")
    chosen = np.arange(source.limit)
    if source.subset_seed:
        drawn = np.random.default_rng(source.subset_seed).permutation(len(rows))
        chosen = np.sort(drawn[: source.limit])
        notes.append(f"They are a random subset (data.subset_seed={source.subset_seed}).")
    return rows.select(chosen), hashes[chosen]


class _Cut:
    """Chooses the rows that are cut from train.

    Attributes:
        groups: hash of what each row shares with others, ``(N,)``; ``None``: rows share nothing.
    """

    def __init__(self, train: Dataset, schema: DataSchema):
        self.train, self.schema = train, schema
        self.groups: np.ndarray | None = None
        self.shared_by_all = False
        role = schema.group_by
        if role is not None and role in train.column_names:
            groups = np.fromiter(map(_text_hash, iter_values(train, role)), np.uint64, len(train))
            # With fewer, one of the three splits would be empty.
            self.shared_by_all = len(np.unique(groups)) < 3
            self.groups = None if self.shared_by_all else groups
        self._classes: _RowClasses | None = None
        self._remaining = np.zeros(0, dtype=np.int64)
        self._kept: dict[int, str] = {}

    def choose(self, order: np.ndarray, count: int) -> np.ndarray:
        """Return at most ``count`` rows of those in ``order`` (their indices)."""
        if count < 1:
            return order[:0]
        if self.groups is not None:
            return self._whole_groups(order, count)
        if not self.schema.categorical or LABEL not in self.train.column_names:
            return order[:count]
        if self._classes is None:
            self._classes = _RowClasses.of(self.train)
            self._remaining = self._classes.row_counts() // 2
        chosen: list[int] = []
        for row in order:
            if len(chosen) == count:
                break
            classes = self._classes[row]
            rare = classes[self._remaining[classes] < 1]
            if len(rare):
                self._kept[int(row)] = self._classes.names[rare[0]]
                continue
            self._remaining[classes] -= 1
            chosen.append(row)
        return np.array(chosen, dtype=order.dtype)

    def notes(self) -> list[str]:
        """Return notes on groups, and on rows of rare classes that a plain cut would have taken."""
        if self.shared_by_all:
            return [
                f"All training rows share one or two {self.schema.group_by}: those that were cut "
                "from train share theirs with train."
            ]
        if not self._kept:
            return []
        names = sorted(set(self._kept.values()))
        more = ", ..." if len(names) > 5 else ""
        return [
            f"Classes with few examples stay in train: {', '.join(names[:5])}{more} "
            f"({len(self._kept)} examples were not cut)."
        ]

    def _whole_groups(self, order: np.ndarray, count: int) -> np.ndarray:
        assert self.groups is not None
        groups, sizes = np.unique(self.groups[order], return_counts=True)  # sorted by hash
        taken: list[int] = []
        left = count
        for group, size in zip(groups, sizes, strict=True):
            if size <= left:
                taken.append(group)
                left -= size
        if not taken and len(groups) > 1:
            taken = [groups[np.argmin(sizes)]]
        return order[np.isin(self.groups[order], np.array(taken, dtype=np.uint64))]


@dataclass(frozen=True)
class _RowClasses:
    """The classes of each row, without an object for each.

    Attributes:
        names: the distinct classes.
        codes: classes of all rows, row after row, ``(W,)``; -1: none.
        ends: where each row's classes end, ``(N,)``.
    """

    names: list[str]
    codes: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, rows: Dataset) -> "_RowClasses":
        column = arrow_column(rows, LABEL).combine_chunks()
        counts = np.ones(len(rows), dtype=np.int64)
        if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            counts = pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int64)
            column = pc.list_flatten(column)
        if pa.types.is_nested(column.type):  # no classes: the task will say so
            return cls([], np.full(len(column), -1), np.cumsum(counts))
        encoded = pc.dictionary_encode(column)
        encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
        codes = pc.fill_null(encoded.indices, -1).to_numpy()
        return cls(list(map(str, encoded.dictionary.to_pylist())), codes, np.cumsum(counts))

    def __getitem__(self, row: int) -> np.ndarray:
        start = self.ends[row - 1] if row else 0
        codes = np.unique(self.codes[start : self.ends[row]])
        return codes[codes >= 0]

    def row_counts(self) -> np.ndarray:
        """Return the number of rows of each class, ``(C,)``."""
        counts = np.diff(self.ends, prepend=0)
        rows = np.repeat(np.arange(len(self.ends), dtype=np.int64), counts)
        pairs = np.unique(rows * (len(self.names) + 1) + self.codes + 1) % (len(self.names) + 1)
        return np.bincount(pairs, minlength=len(self.names) + 1)[1:]


def _text_hash(text: str | None) -> int:
    return int.from_bytes(hashlib.sha256((text or "").encode()).digest()[:8], "little")
