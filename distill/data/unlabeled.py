"""Inputs without labels, from which the student learns the teacher's outputs alone.

They come from ``data.unlabeled``, from ``data.augmentation``, or both. An input of the validation
or test split among them would be a leak and an input of train would be seen twice: both are left
out.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from datasets import Dataset, Features, concatenate_datasets

from distill.core.errors import UserError
from distill.data.augmentation.base import augment
from distill.data.columns import cast_rows
from distill.data.label_cleaning import has_no_labels
from distill.data.readers.options import ReadingOptions
from distill.data.readers.table import looks_like_table
from distill.data.retrieval import TextEncoder, nearest_rows
from distill.data.row_hashes import near_duplicate_keys
from distill.data.schema import LABEL, DataSchema
from distill.data.sources.base import DataSource
from distill.data.sources.files import FORMATS, data_suffix, read_file
from distill.data.sources.hub import read_hub

log = logging.getLogger(__name__)

# Number of neighbors of each training example where the user gives none.
DEFAULT_NEIGHBORS = 10
# Splits of the labeled data whose texts may serve without labels.
UNLABELED_SPLITS = ("train", "test")
# Names of the split without labels in data sets of the hub, tried in this order.
HUB_SPLITS = ("unsupervised", "unlabelled", "unlabeled", "train")

_UNLABELED_NOTE = (
    "{} {} without labels ({}) join the student's training; all it learns from them is what "
    "the teacher says."
)


def read_unlabeled(
    source: DataSource,
    columns: Mapping[str, str],
    splits: Mapping[str, Dataset],
    schema: DataSchema,
    cache_dir: Path,
) -> Dataset | None:
    """Return the rows of ``data.unlabeled`` as they come; ``None`` if the source has none.

    Args:
        source: its ``unlabeled`` names files, folders, hub ids or splits.
        columns: the source's column of each role.
        splits: the source's splits with columns of its own; the result has the input columns of
            train.
        schema: validates the columns.
        cache_dir: where files are read to.

    Raises:
        UserError: if there is nothing to read.
    """
    if source.unlabeled is None or source.unlabeled_limit == 0:
        return None
    reader = _UnlabeledReader(source, columns, splits, schema, cache_dir)
    return concatenate_datasets([reader.read(name) for name in unlabeled_names(source)])


def unlabeled_names(source: DataSource) -> list[str]:
    """Return what ``data.unlabeled`` names, one or several."""
    given = source.unlabeled or []
    return [given] if isinstance(given, str) else list(given)


def build_unlabeled(
    source: DataSource,
    rows: Dataset | None,
    splits: Mapping[str, Dataset],
    schema: DataSchema,
    cache_dir: Path,
    notes: list[str],
    encoder: TextEncoder | None = None,
) -> Dataset | None:
    """Return everything unlabeled that the student learns from, without duplicates.

    Inputs that differ in case and white space only count as equal: a file often holds the texts of
    a test set stripped or in lower case.

    Args:
        source: its ``unlabeled_limit`` and ``augmentation`` apply.
        rows: result of :func:`read_unlabeled`.
        splits: the labeled examples; none of their inputs is among the result.
        schema: says when two inputs are equal.
        cache_dir: where augmented rows are kept.
        notes: numbers of rows used and left out are appended.
        encoder: of ``unlabeled_select=nearest``.

    Returns:
        Rows with the input columns of ``splits``; those of either origin in the order of a hash of
        their inputs, the nearest first if they were selected so. ``None`` if the source has none.

    Raises:
        UserError: if nothing remains.
    """
    if rows is None and source.augmentation is None:
        return None
    features = _input_features(splits["train"], schema)
    known = {split: near_duplicate_keys(labeled, schema)[0] for split, labeled in splits.items()}
    parts = []
    if rows is not None:
        origin = f"data.unlabeled={','.join(unlabeled_names(source))}"
        rows = _drop_known(rows, schema, known, origin, notes)
        if encoder is not None:
            rows = _select_nearest(rows, splits["train"], encoder, source, schema, notes)
        if source.unlabeled_limit is not None and source.unlabeled_limit < len(rows):
            notes.append(
                f"{source.unlabeled_limit} of {len(rows)} {schema.inputs_are} without labels are "
                "used (data.unlabeled_limit)."
            )
            rows = rows.select(range(source.unlabeled_limit))
        notes.append(_UNLABELED_NOTE.format(len(rows), schema.inputs_are, origin))
        known["data.unlabeled"] = near_duplicate_keys(rows, schema)[0]
        parts.append(rows)
    if source.augmentation is not None:
        origin = f"augmentation={source.augmentation.name}"
        augmented = augment(source.augmentation, splits["train"], list(features), cache_dir)
        augmented = _drop_known(cast_rows(augmented, features), schema, known, origin, notes)
        notes.append(_UNLABELED_NOTE.format(len(augmented), schema.inputs_are, origin))
        parts.append(augmented)
    return concatenate_datasets(parts)


def _select_nearest(
    rows: Dataset,
    train: Dataset,
    encoder: TextEncoder,
    source: DataSource,
    schema: DataSchema,
    notes: list[str],
) -> Dataset:
    """Return the rows that are nearest to the training examples, the nearest first."""
    neighbors = source.unlabeled_neighbors or DEFAULT_NEIGHBORS
    selected = nearest_rows(
        encoder.encode(train, schema, "train"),
        encoder.encode(rows, schema, "data.unlabeled"),
        neighbors,
    )
    notes.append(
        f"{len(selected)} of {len(rows)} texts without labels are among the {neighbors} nearest to "
        f"a training text by the vectors of {encoder.path} (data.unlabeled_select=nearest)."
    )
    return rows.select(selected)


def _input_features(rows: Dataset, schema: DataSchema) -> Features:
    return Features(
        {role: rows.features[role] for role in schema.inputs if role in rows.column_names}
    )


def _drop_known(
    rows: Dataset,
    schema: DataSchema,
    known: Mapping[str, np.ndarray],
    origin: str,
    notes: list[str],
) -> Dataset:
    """Drop rows that are empty, repeated or among the known ones; sort by hash."""
    keys, empty = near_duplicate_keys(rows, schema)
    kept = ~empty
    dropped = {"are empty": int(empty.sum())}
    for split, split_keys in known.items():
        shared = kept & np.isin(keys, split_keys)
        dropped[f"stand in {split}"] = int(shared.sum())
        kept &= ~shared
    indices = np.flatnonzero(kept)
    unique, first = np.unique(keys[indices], return_index=True)  # sorted by key
    dropped["repeat another one"] = len(indices) - len(unique)
    reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items() if count)
    if not len(unique):
        raise UserError(
            f"{origin}: no {schema.inputs_are.removesuffix('s')} is left of {len(rows)} "
            f"({reasons or 'there are none'})"
        )
    if reasons:
        notes.append(f"Left out of the {schema.inputs_are} without labels ({origin}): {reasons}.")
    return rows.select(indices[first])


class _UnlabeledReader:
    """Reads what ``data.unlabeled`` names from wherever it is."""

    def __init__(
        self,
        source: DataSource,
        columns: Mapping[str, str],
        splits: Mapping[str, Dataset],
        schema: DataSchema,
        cache_dir: Path,
    ):
        self.source, self.columns, self.splits, self.schema = source, columns, splits, schema
        self.cache_dir = cache_dir
        train = splits["train"]
        self.features = Features(
            {
                role: train.features[columns[role]]
                for role in schema.inputs
                if columns.get(role) in train.column_names
            }
        )

    def read(self, name: str) -> Dataset:
        """Return the rows of one file, folder, split or hub id, with the input columns of train."""
        path = Path(name).expanduser()
        option = f"data.unlabeled={name}"
        split = self.source.unlabeled_split(name, self.cache_dir)
        if split is None and name in UNLABELED_SPLITS:
            split = self._own_split(name, option)
        if split is not None:
            if path.exists() and not self.source.reads_unlabeled_paths:
                log.warning(
                    "%s is a split of the data, not the %s: write ./%s for that",
                    option, "folder" if path.is_dir() else "file", name,
                )  # fmt: skip
            return self._select(split, option)
        if path.is_file():
            files: Sequence[Path] = [path]
            if data_suffix(path) not in FORMATS:
                raise UserError(
                    f"{option}: its format is none of {', '.join(FORMATS)} (or those .gz)"
                )
        elif path.is_dir():
            files = [file for file in sorted(path.iterdir()) if data_suffix(file) in FORMATS]
            if not files:
                raise UserError(
                    f"{option}: there is no file in it of {', '.join(FORMATS)} (or those .gz)"
                )
        else:
            return self._select(_read_hub(name, option, self.cache_dir), option)
        # The same reading options as for labeled files.
        options: ReadingOptions = getattr(self.source, "reading", ReadingOptions())
        parts = [
            self._select(
                read_file(file, self.cache_dir, _options_for(file, options)),
                str(file),
                data_suffix(file),
            )
            for file in files
        ]
        return concatenate_datasets(parts)

    def _own_split(self, name: str, option: str) -> Dataset:
        """Return train or test, whose texts may serve as far as their labels do not."""
        if name not in self.splits:
            raise UserError(f"{option}: {self.source.name} has no {name} split")
        rows = self.splits[name]
        if name == "train" and (self.source.limit is None or self.source.limit >= len(rows)):
            raise UserError(
                f"{option} takes the {self.schema.inputs_are} that data.limit leaves of train, and "
                f"it leaves none: set data.limit below {len(rows)}, or data.unlabeled=null"
            )
        if name == "test" and not self._lacks_labels(rows):
            raise UserError(f"{option}: the test split has labels and is what is evaluated")
        return rows

    def _lacks_labels(self, rows: Dataset) -> bool:
        """Return whether rows lack the columns of labels, or what is in them."""
        given = self.source.label
        columns = given if isinstance(given, list) else [self.columns.get(LABEL)]
        return all(
            name is not None and (name not in rows.column_names or has_no_labels(rows, name))
            for name in columns
        )

    def _select(self, rows: Dataset, origin: str, suffix: str = "") -> Dataset:
        """Select the columns of the labeled data; the only column of a txt file is ``text``."""
        names = {
            role: self.columns.get(role, self.schema.columns[role].names[0])
            for role in self.features
        }
        if suffix == ".txt" and "text" in rows.column_names and "text" in names:
            names["text"] = "text"
        for role, name in names.items():
            if name not in rows.column_names:
                raise UserError(
                    f"data.{role}={name}: {origin} has no such column, "
                    f"it has {', '.join(rows.column_names)}"
                )
            self.schema.inputs[role].validate(role, origin, rows.features[name])
        rows = rows.select_columns(list(names.values()))
        rows = rows.rename_columns({name: role for role, name in names.items() if role != name})
        # Files of several formats can be concatenated only if their types are identical.
        return cast_rows(rows.select_columns(list(self.features)), self.features)


def _options_for(file: Path, options: ReadingOptions) -> ReadingOptions:
    """Return the options of the labeled files, as far as they concern a file."""
    kind = FORMATS[data_suffix(file)]
    if kind in ("json", "parquet"):
        return replace(options, layout="auto")
    if kind == "text" and options.layout == "auto" and not looks_like_table(file, options):
        return ReadingOptions(encoding=options.encoding, layout="text")
    return options


def _read_hub(name: str, option: str, cache_dir: Path) -> Dataset:
    path, _, subset = name.partition(":")
    if path.count("/") != 1 or path.startswith((".", "~", "/")) or data_suffix(Path(path)):
        raise UserError(f"{option}: there is no such file or folder")
    splits = read_hub(path, subset or None, cache_dir)
    for split in HUB_SPLITS:
        if split in splits:
            return splits[split]
    raise UserError(f"{option} has none of the splits {', '.join(HUB_SPLITS)}: {', '.join(splits)}")
