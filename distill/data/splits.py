"""Assignment of splits, and splits cut from train by a fixed rule."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from datasets import Dataset

from distill.core.errors import UserError
from distill.data.columns import iter_values
from distill.data.schema import LABEL
from distill.data.sources.base import DataSource

SPLITS = ("train", "validation", "test")
# Size of a split that is cut from train: a fraction of train, and a maximum number of examples.
HELD_OUT_SHARE, MAX_HELD_OUT = 0.1, 2000

HashedRows = tuple[Dataset, np.ndarray]
"""Rows and the hash of each row's inputs, ``(N,)``."""


def complete_splits(
    splits: Mapping[str, HashedRows], source: DataSource, notes: list[str]
) -> tuple[dict[str, HashedRows], str]:
    """Return all three splits and the name of the one that is evaluated.

    A test split without labels is left out, validation serves as test where there is none, and
    what is then missing is cut from train.

    Args:
        splits: the splits that the source has.
        source: its ``limit`` applies to train.
        notes: what was done is appended.
    """
    splits = dict(splits)
    evaluated_on = "test"
    if "test" in splits and has_no_labels(splits["test"][0]):
        del splits["test"]
        notes.append("The test split has no labels and is not evaluated.")
    if "test" not in splits and "validation" in splits:
        splits["test"] = splits.pop("validation")
        evaluated_on = "validation"
        notes.append("There is no labeled test split: the validation split serves as one.")
    train, hashes = splits["train"]
    order = np.argsort(hashes, kind="stable")
    for split in ("test", "validation"):
        if split in splits:
            continue
        count = min(int(len(train) * HELD_OUT_SHARE), MAX_HELD_OUT)
        if split == "validation" and source.limit is not None:
            count = min(count, max(200, source.limit // 10))
        if count < 1:
            raise UserError(
                f"{len(train)} training examples are too few to cut a {split} split from"
            )
        splits[split] = train.select(order[:count]), hashes[order[:count]]
        order = order[count:]
        notes.append(
            f"There is no {split} split: {count} examples were cut from train, chosen by a hash "
            "of their text."
        )
    if source.limit is not None and source.limit < len(order):
        notes.append(f"{source.limit} of {len(order)} training examples are used (data.limit).")
        order = order[: source.limit]
    splits["train"] = train.select(order), hashes[order]
    return {split: splits[split] for split in SPLITS}, evaluated_on


def has_no_labels(rows: Dataset, label: str | None = LABEL) -> bool:
    """Return whether every label of the rows is missing: null, empty or -1.

    Args:
        rows: rows of one split.
        label: their column of labels; ``None``: the task reads none, and none are missing.
    """
    if label is None or label not in rows.column_names:
        return False

    def is_missing(value: Any) -> bool:
        return value in (None, -1, "-1", "-1.0", "")

    return all(
        all(map(is_missing, value)) if isinstance(value, list) else is_missing(value)
        for value in iter_values(rows, label)
    )
