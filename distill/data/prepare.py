"""A source's own rows turned into checked splits with uniform column names."""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, List, Value, concatenate_datasets, disable_progress_bars

from distill.core.cache import cache_key, get_or_create
from distill.core.errors import UserError
from distill.data.class_notes import class_notes
from distill.data.columns import content_hash, iter_values
from distill.data.label_cleaning import clean_labels, composed
from distill.data.label_lists import label_lists, lists_from_columns
from distill.data.retrieval import TextEncoder, check_retrieval
from distill.data.row_hashes import row_hashes
from distill.data.schema import LABEL, DataSchema, Targets
from distill.data.sources.base import DataSource
from distill.data.splits import (
    SPLITS,
    HashedRows,
    complete_splits,
    drop_unlabeled_splits,
    limit_train,
)
from distill.data.unlabeled import build_unlabeled, read_unlabeled

# Number of rows in memory at a time.
CHUNK_ROWS = 10_000
# Name of the split without labels in prepared data and in report.json.
UNLABELED = "unlabelled"


@dataclass(frozen=True)
class PreparedData:
    """Checked examples, independent of any model.

    Attributes:
        name: name in reports.
        splits: ``train``, ``validation`` and ``test``, each with the schema's input columns and
            ``label`` (a target of the task; none for tasks without labels); with unlabeled inputs
            also ``unlabelled``, whose labels are all the schema's missing label.
        label_names: names of the head's outputs, for classes in the order of their ids.
        evaluated_on: the source's split that serves as ``test``: ``test``, given or cut from
            train, or ``validation``.
        fingerprint: hash of the evaluated split and the label names; runs with equal fingerprints
            can be compared.
        hashes: content hash of each split, for cache keys.
        notes: notes for the report (splits cut from train, rows dropped, test rows in train).
    """

    name: str
    splits: dict[str, Dataset]
    label_names: list[str]
    evaluated_on: str
    fingerprint: str
    hashes: dict[str, str]
    notes: list[str] = field(default_factory=list)

    @property
    def sizes(self) -> dict[str, int]:
        """Number of examples of each split."""
        return {split: len(rows) for split, rows in self.splits.items()}


def prepare_data(source: DataSource, schema: DataSchema, cache_dir: Path) -> PreparedData:
    """Read a source, check every row, complete the splits and turn labels into targets.

    The training rows are in the order of a hash of their inputs, so that a smaller ``data.limit``
    takes a subset of what a larger one takes, whatever the order of the file.

    The result is kept in ``cache_dir`` under a key of all bytes that were read, of every setting
    and of the code that prepares, and memory-mapped: a later run neither checks nor hashes a row.

    Raises:
        UserError: for every mistake in the data that can be found before training.
    """
    if source.label_separator is not None and not schema.multiple_labels:
        raise UserError(
            f"data.label_separator={source.label_separator}: task={schema.task_name} has one label "
            "an example, task=multi_label has many"
        )
    if isinstance(source.label, list) and not schema.multiple_labels:
        raise UserError(
            f"data.label={source.label}: task={schema.task_name} has one label column; a column "
            "for each class is for task=multi_label"
        )
    disable_progress_bars()
    read = source.read(cache_dir)
    notes = list(source.read_notes)
    columns = resolve_columns(source, schema, read["train"].column_names)
    read = {
        split: schema.clean_rows(_with_paths(rows, columns), columns.get(LABEL))
        for split, rows in read.items()
    }
    label_columns = source.label if isinstance(source.label, list) else None
    needed = label_columns or [columns[LABEL]] if schema.has_labels else []
    splits = {
        split: _select_columns(split, read[split], columns, label_columns, source, schema)
        for split in SPLITS
        if split in read and not _lacks_labels(split, read, needed, columns, notes)
    }
    for split, rows in splits.items():
        for role, kind in schema.inputs.items():
            if role in rows.column_names:
                kind.validate(role, split, rows.features[role])
    unlabeled = read_unlabeled(source, columns, read, schema, cache_dir)
    encoder = None
    if unlabeled is not None and source.unlabeled_select == "nearest":
        check_retrieval(schema)
        if source.unlabeled_encoder is None:
            raise UserError(
                "data.unlabeled_select=nearest: name a model, data.unlabeled_encoder=..."
            )
        encoder = TextEncoder(source.unlabeled_encoder, source.max_length, cache_dir)
    folder = (
        cache_dir / "prepared" / _prepared_key(source, columns, schema, splits, unlabeled, encoder)
    )
    get_or_create(
        folder,
        lambda partial: _prepare_splits(
            source, schema, splits, unlabeled, encoder, cache_dir, partial
        ),
    )
    stored = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    rows = {split: Dataset.from_file(str(folder / f"{split}.arrow")) for split in stored["hashes"]}
    schema.set_label_names(stored["label_names"])
    stored["notes"] = notes + stored["notes"]
    return PreparedData(source.name, rows, fingerprint=stored["hashes"]["test"], **stored)


def resolve_columns(
    source: DataSource, schema: DataSchema, available: Sequence[str]
) -> dict[str, str]:
    """Return the source's column for each role of the schema.

    A role without a column is left out if it is optional.

    Raises:
        UserError: if the user names a column for a role that the task does not have.
    """
    resolved: dict[str, str] = {}
    for role in source.column_roles:
        given = getattr(source, role)
        if role != LABEL and role not in schema.columns and given not in (None, "auto"):
            raise UserError(f"data.{role}={given}: task={schema.task_name} has no such input")
    for role, column in schema.columns.items():
        given = getattr(source, role, None)
        if isinstance(given, list):
            continue  # a column for each class
        if given not in (None, "auto"):
            resolved[role] = _existing_name(str(given), available)
        elif given is None and column.optional:
            continue
        else:
            names = [_existing_name(name, available) for name in column.names]
            found = [name for name in names if name in available]
            if found or not column.optional:
                # Without a match the message names the most usual one.
                resolved[role] = (found or list(column.names))[0]
    return resolved


def _prepared_key(
    source: DataSource,
    columns: Mapping[str, str],
    schema: DataSchema,
    splits: Mapping[str, Dataset],
    unlabeled: Dataset | None,
    encoder: TextEncoder | None,
) -> str:
    """Return the cache key of everything that determines what is prepared."""
    settings = {
        option.name: getattr(source, option.name)
        for option in fields(DataSource)
        if option.name not in ("name", "max_length", "batch_size", "augmentation")
    }
    if encoder is not None:
        settings["unlabeled_encoder"] = [encoder.hash, encoder.max_length]
    augmentation = source.augmentation
    return cache_key(
        kind="prepared", format=4, settings=settings, columns=dict(columns),
        splits={split: content_hash(rows) for split, rows in splits.items()},
        unlabeled=None if unlabeled is None else content_hash(unlabeled),
        augmentation=augmentation
        and {"name": augmentation.name, "settings": augmentation.settings()},
        schema=[type(schema).__name__, schema.task_name, schema.settings, _code_hash(type(schema))],
    )  # fmt: skip


def _code_hash(schema: type) -> str:
    """Return a hash of the code that prepares: the schema's own files, distill.data and tasks."""
    files = {getattr(sys.modules[base.__module__], "__file__", None) for base in schema.__mro__}
    here = Path(__file__).parent
    for folder in (here, here.parent / "tasks"):
        files |= {str(file) for file in folder.rglob("*.py")}
    digest = hashlib.sha256()
    for file in sorted(filter(None, files)):
        digest.update(Path(file).read_bytes())
    return digest.hexdigest()


def _prepare_splits(
    source: DataSource,
    schema: DataSchema,
    splits: Mapping[str, Dataset],
    unlabeled: Dataset | None,
    encoder: TextEncoder | None,
    cache_dir: Path,
    folder: Path,
) -> None:
    """Check and complete the splits, and write one file each and ``data.json``."""
    notes: list[str] = []
    if schema.multiple_labels:
        splits = {split: label_lists(split, rows, source, notes) for split, rows in splits.items()}
    splits = drop_unlabeled_splits(splits, notes)
    # A column for each class says of a row that it was not labeled by -1 in all of them.
    drop = True if isinstance(source.label, list) else source.drop_unlabeled
    splits = clean_labels(splits, schema, drop, notes)
    hashed = {
        split: _drop_empty_rows(split, rows, source, schema, notes)
        for split, rows in splits.items()
    }
    hashed, evaluated_on = complete_splits(hashed, source, schema, notes)
    # Of all examples: a limit changes the number of examples, not the set of classes.
    whole = {split: rows for split, (rows, _) in hashed.items()}
    names = schema.label_names(whole, _given_names(source))
    hashed["train"] = limit_train(hashed["train"], source, notes)
    splits = {split: rows for split, (rows, _) in hashed.items()}
    keys = {split: hashes for split, (_, hashes) in hashed.items()}
    targets = {split: _targets(split, rows, names, schema, notes) for split, rows in splits.items()}
    if schema.categorical:
        notes += class_notes(targets, names, source.limit)
    more = build_unlabeled(source, unlabeled, splits, schema, cache_dir, notes, encoder)
    if more is not None:
        _check_values("data.unlabeled", more, schema)
        splits[UNLABELED], keys[UNLABELED] = more, row_hashes(more, schema)[0]
        targets[UNLABELED] = _repeat_label(schema.missing_label(names), len(more), targets["train"])
    shared = int(np.isin(keys["test"], keys["train"]).sum())
    if shared:
        notes.append(
            f"{shared} of the {len(keys['test'])} evaluated {schema.inputs_are} also stand in "
            "train."
        )
    for split, rows in splits.items():
        _write_split(folder / f"{split}.arrow", rows, schema, targets[split])
    hashes = {split: _fingerprint(keys[split], targets[split], names, schema) for split in splits}
    stored = {"label_names": names, "evaluated_on": evaluated_on, "hashes": hashes, "notes": notes}
    (folder / "data.json").write_text(json.dumps(stored), encoding="utf-8")


def _targets(
    split: str, rows: Dataset, names: Sequence[str], schema: DataSchema, notes: list[str]
) -> Targets | None:
    targets = schema.targets(split, rows, names)
    if targets is not None:
        note = schema.target_note(split, rows[LABEL], targets)
        if note is not None:
            notes.append(note)
    return targets


def _repeat_label(label: Any, count: int, like: Targets | None) -> Targets:
    """Return the missing label for every row, in the form of other rows' targets."""
    if not isinstance(like, np.ndarray):
        return [label] * count
    array = np.asarray(label, dtype=like.dtype)
    return np.broadcast_to(array, (count, *array.shape))


def _write_split(file: Path, rows: Dataset, schema: DataSchema, targets: Targets | None) -> None:
    """Write the input columns and the targets, to be memory-mapped."""
    inputs = rows.select_columns(input_columns(rows, schema)).with_format("arrow")
    if targets is not None and not isinstance(targets, np.ndarray):
        targets = pa.array(targets)  # the type of one chunk alone may be ambiguous
    stream = None
    for start in range(0, len(rows), CHUNK_ROWS):
        chunk = inputs[start : start + CHUNK_ROWS].replace_schema_metadata(None)
        if targets is not None:
            labels = targets[start : start + CHUNK_ROWS]
            if isinstance(labels, np.ndarray) and labels.ndim > 1:
                labels = labels.tolist()
            chunk = chunk.append_column(LABEL, pa.array(labels))
        stream = stream or pa.ipc.new_stream(str(file), chunk.schema)
        # Rows gathered by index arrive as one chunk each, and every chunk would be a batch.
        stream.write_table(chunk.combine_chunks())
    assert stream is not None, "splits without rows are refused"
    stream.close()


def input_columns(rows: Dataset, schema: DataSchema) -> list[str]:
    """Return the schema's input columns that the rows have."""
    return [role for role in schema.inputs if role in rows.column_names]


def _lacks_labels(
    split: str,
    read: Mapping[str, Dataset],
    needed: Sequence[str],
    columns: Mapping[str, str],
    notes: list[str],
) -> bool:
    """Return whether a split is left out because only train has the columns of the labels."""
    names = read[split].column_names
    inputs = [name for role, name in columns.items() if role != LABEL]
    if split == "train" or not set(needed) - set(names) or set(inputs) - set(names):
        return False
    if set(needed) - set(read["train"].column_names) or set(needed) & set(names):
        return False
    notes.append(
        f"The {split} split has no labels (no column {_listed(needed)}) and is not "
        f"{'evaluated' if split == 'test' else 'used'}."
    )
    return True


def _select_columns(
    split: str,
    rows: Dataset,
    columns: Mapping[str, str],
    label_columns: Sequence[str] | None,
    source: DataSource,
    schema: DataSchema,
) -> Dataset:
    wanted = list(columns.items()) + [(LABEL, name) for name in label_columns or ()]
    for role, name in wanted:
        if name not in rows.column_names:
            raise UserError(
                f"data.{role}={name}: {split} has no such column, it has "
                f"{_listed(rows.column_names)}{_name_hint(role, name, rows.column_names)}"
                f"{source.column_hint()}{schema.column_hint(role)}"
            )
    names = [name for _, name in wanted]
    if len(set(names)) < len(names):
        raise UserError(f"one column serves twice: {', '.join(names)}")
    selected = rows.select_columns(list(columns.values()))
    selected = selected.rename_columns(
        {name: role for role, name in columns.items() if role != name}
    )
    if label_columns:
        labels = lists_from_columns(split, rows, label_columns)
        selected = selected.add_column(LABEL, labels, feature=List(Value("string")))
    return selected


def _with_paths(rows: Dataset, columns: Mapping[str, str]) -> Dataset:
    """Add the fields of records that columns are named by, such as ``labels.binary``."""
    for name in columns.values():
        root = name.split(".")[0]
        if name not in rows.column_names and root in rows.column_names and root != name:
            fields_of_root = rows.select_columns([root]).flatten()
            if name in fields_of_root.column_names:
                rows = concatenate_datasets([rows, fields_of_root.select_columns([name])], axis=1)
    return rows


def _existing_name(name: str, available: Sequence[str]) -> str:
    """Return the column of a name that may be written in another Unicode form."""
    if name in available:
        return name
    return next((other for other in available if composed(other) == composed(name)), name)


def _listed(names: Sequence[str]) -> str:
    """List names, in quotes where they would be misread."""
    return ", ".join(
        repr(name)
        if name != name.strip() or not name or "," in name or not name.isprintable()
        else name
        for name in names
    )


def _name_hint(role: str, name: str, available: Sequence[str]) -> str:
    def plain(text: str) -> str:
        visible = "".join(letter for letter in composed(text) if letter.isprintable())
        return visible.strip().casefold()

    close = [other for other in available if plain(other) == plain(name)]
    if close and close[0].isprintable():
        quoted = close[0] if close[0].isidentifier() else f"\"'{close[0]}'\""
        return f"; did you mean data.{role}={quoted}?"
    if close:
        return f"; did you mean {close[0]!r}? data.columns=[...] gives other names"
    if len(available) == 1 and plain(name) in plain(available[0]):
        return "; data.delimiter=... names the character between columns"
    return ""


def _given_names(source: DataSource) -> list[str] | None:
    """Return ``data.labels``, or the columns of the classes."""
    if source.labels is None and isinstance(source.label, list):
        return list(source.label)
    return None if source.labels is None else [str(name) for name in source.labels]


def _drop_empty_rows(
    split: str, rows: Dataset, source: DataSource, schema: DataSchema, notes: list[str]
) -> HashedRows:
    """Return the rows whose inputs are not empty, and their hashes."""
    if len(rows) == 0:
        raise UserError(f"{split} has no examples")
    hashes, empty = row_hashes(rows, schema)
    _check_values(split, rows, schema)
    if not empty:
        return rows, hashes
    if source.empty == "error":
        raise UserError(
            f"{len(empty)} {schema.inputs_are} of {split} are empty (the first in row "
            f"{empty[0] + 1}): mend them or leave them out with data.empty=drop"
        )
    notes.append(f"{len(empty)} empty {schema.inputs_are} of {split} were left out.")
    kept = np.setdiff1d(np.arange(len(rows)), empty)
    if not len(kept):
        raise UserError(f"all {schema.inputs_are} of {split} are empty")
    return rows.select(kept), hashes[kept]


def _check_values(split: str, rows: Dataset, schema: DataSchema) -> None:
    """Refuse values that are there and cannot be used, naming the first."""
    for role, kind in schema.inputs.items():
        if not kind.has_faults or role not in rows.column_names:
            continue
        for row, value in enumerate(iter_values(rows, role)):
            if not kind.is_empty(value) and (fault := kind.fault(value)) is not None:
                raise UserError(f"{split} row {row + 1}: {fault}")


def _fingerprint(
    hashes: np.ndarray, targets: Targets | None, names: Sequence[str], schema: DataSchema
) -> str:
    digest = hashlib.sha256("\x1f".join(names).encode())
    digest.update(hashes.tobytes())
    if targets is not None:
        for start in range(0, len(targets), CHUNK_ROWS):
            digest.update(schema.target_bytes(targets[start : start + CHUNK_ROWS]))
    return digest.hexdigest()[:16]
