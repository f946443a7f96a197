"""From a source's own rows to checked splits with one set of column names."""

import copy
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from datasets import Dataset, List, Value

from distill.data.source import Source
from distill.data.unlabelled import unlabelled
from distill.errors import UserError

# A split that is missing is cut from train: this share of it, at most so many examples.
CUT_SHARE, CUT_MOST = 0.1, 2000
# Between the labels of one example, where they are text.
LABEL_SEPARATOR = ","
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Data:
    """Checked examples, ready for any tokenizer.

    Attributes:
        name: what reports call them.
        splits: ``train``, ``validation`` and ``test``, each with the columns ``text``, perhaps
            ``text_pair``, and ``label`` (what the task makes of it: an id, a number, a 0 or 1 for
            each class, an id for each word, answers; none without labels); with texts that have
            no labels also ``unlabelled``, all of whose labels are the task's ``no_label``.
        label_names: the classes in the order of their ids; what else the head's outputs are called.
        evaluated_on: the source's split that serves as ``test``: itself, be it given or cut from
            train, or ``validation``.
        fingerprint: of the evaluated split's content and the label names; runs with equal
            fingerprints can be compared.
        hashes: the content of each split, for cache keys.
        notes: what a reader of the report should know (splits that were cut, texts that were
            dropped, texts of the test split that also stand in train).
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
        """Examples a split."""
        return {split: len(rows) for split, rows in self.splits.items()}


def prepare(source: Source, task, cache_dir: Path) -> Data:
    """Read a source, check every row, cut what is missing and turn labels into what the task takes.

    Rows that stay in train are in the order of a hash of their text, so a smaller
    ``data.limit`` takes a subset of what a larger one takes, whatever the file's order.

    Raises:
        UserError: for every mistake in the data that can be found before training.
    """
    notes: list[str] = []
    read = source.read(cache_dir)
    source = _with_columns(source, task, read)
    read = {split: task.tidied(rows, source.label) for split, rows in read.items()}
    splits = {
        split: _select_columns(split, read[split], source, task)
        for split in SPLITS
        if split in read
    }
    if task.many_labels:
        splits = {split: _as_lists(rows, source) for split, rows in splits.items()}
    elif source.label_separator is not None:
        raise UserError(
            f"data.label_separator={source.label_separator}: task={task.name} has one label an "
            "example, task=multi_label has many"
        )
    splits = {
        split: _check_texts(split, rows, source, task, notes) for split, rows in splits.items()
    }
    splits, evaluated_on = _complete(splits, source, task, notes)
    names = task.label_names(splits, source.labels)
    splits = {
        split: _with_targets(split, rows, names, task, notes) for split, rows in splits.items()
    }
    more = unlabelled(source, splits, task, task.no_label(names), cache_dir, notes)
    if more is not None:
        splits["unlabelled"] = more
    keys = {split: _row_hashes(rows, task) for split, rows in splits.items()}
    shared = int(np.isin(keys["test"], keys["train"]).sum())
    if shared:
        notes.append(f"{shared} of the {len(keys['test'])} evaluated texts also stand in train.")
    hashes = {split: _fingerprint(keys[split], splits[split], names, task) for split in splits}
    return Data(source.name, splits, names, evaluated_on, hashes["test"], hashes, notes)


def _with_columns(source: Source, task, read: Mapping[str, Dataset]) -> Source:
    """The source, saying which of its columns are read for this task.

    Raises:
        UserError: if a name is needed that was not found, or given and not needed.
    """
    have = read["train"].column_names
    names: dict[str, str | None] = {"text": None, "text_pair": None, "label": None}
    for ours in names:
        given, usual = getattr(source, ours), task.columns.get(ours, ())
        if ours not in task.columns:
            if ours == "text_pair" and given not in (None, "auto"):
                raise UserError(f"data.text_pair={given}: task={task.name} has no second text")
            continue
        if given not in (None, "auto"):
            names[ours] = given
        elif given is None and ours in task.optional_columns:
            continue
        else:
            found = [name for name in usual if name in have]
            if found or ours not in task.optional_columns:
                # The first name that is usual stands in the message if there is none.
                names[ours] = (found or usual)[0]
    resolved = copy.copy(source)
    vars(resolved).update(names)
    return resolved


def _select_columns(split: str, rows: Dataset, source: Source, task) -> Dataset:
    wanted = {ours: getattr(source, ours) for ours in ("text", "text_pair", "label")}
    wanted = {ours: theirs for ours, theirs in wanted.items() if theirs is not None}
    for ours, theirs in wanted.items():
        if theirs not in rows.column_names:
            raise UserError(
                f"data.{ours}={theirs}: {split} has no such column, "
                f"it has {', '.join(rows.column_names)}{task.column_hint(ours, rows.column_names)}"
            )
    if len(set(wanted.values())) < len(wanted):
        raise UserError(f"one column serves twice: {', '.join(wanted.values())}")
    rows = rows.select_columns(list(wanted.values()))
    return rows.rename_columns({theirs: ours for ours, theirs in wanted.items() if ours != theirs})


def _check_texts(split: str, rows: Dataset, source: Source, task, notes: list[str]) -> Dataset:
    if len(rows) == 0:
        raise UserError(f"{split} has no examples")
    columns = text_columns(rows)
    for column in columns:
        task.check_texts(column, split, rows.features[column])
    empty = [
        start + offset
        for start, batch in _batches(rows, columns)
        for offset, texts in enumerate(zip(*(batch[column] for column in columns), strict=True))
        if any(task.is_empty(text) for text in texts)
    ]
    if not empty:
        return rows
    if source.empty == "error":
        raise UserError(
            f"{len(empty)} texts of {split} are empty (the first in row {empty[0] + 1}): "
            "mend them or leave them out with data.empty=drop"
        )
    notes.append(f"{len(empty)} empty texts of {split} were left out.")
    kept = np.setdiff1d(np.arange(len(rows)), empty)
    if not len(kept):
        raise UserError(f"every text of {split} is empty")
    return rows.select(kept)


def _complete(
    splits: dict[str, Dataset], source: Source, task, notes: list[str]
) -> tuple[dict[str, Dataset], str]:
    splits = dict(splits)
    evaluated_on = "test"
    if "test" in splits and _without_labels(splits["test"]):
        del splits["test"]
        notes.append("The test split has no labels and is not used.")
    if "test" not in splits and "validation" in splits:
        splits["test"] = splits.pop("validation")
        evaluated_on = "validation"
        notes.append("There is no labelled test split: the validation split serves as one.")
    train = splits["train"]
    order = np.argsort(_row_hashes(train, task), kind="stable")
    for split in ("test", "validation"):
        if split in splits:
            continue
        count = min(int(len(train) * CUT_SHARE), CUT_MOST)
        if split == "validation" and source.limit is not None:
            count = min(count, max(200, source.limit // 10))
        if count < 1:
            raise UserError(
                f"{len(train)} training examples are too few to cut a {split} split from"
            )
        splits[split] = train.select(order[:count])
        order = order[count:]
        notes.append(
            f"There is no {split} split: {count} examples were cut from train, chosen by a hash "
            "of their text."
        )
    if source.limit is not None and source.limit < len(order):
        notes.append(f"{source.limit} of {len(order)} training examples are used (data.limit).")
        order = order[: source.limit]
    splits["train"] = train.select(order)
    return {split: splits[split] for split in SPLITS}, evaluated_on


def _without_labels(rows: Dataset) -> bool:
    if "label" not in rows.column_names:
        return False
    return all(value in (None, -1, "-1", "-1.0", "", []) for value in rows["label"][:])


def _as_lists(rows: Dataset, source: Source) -> Dataset:
    """Labels that are text with separators, as csv has them, as lists; none where it is empty."""
    if getattr(rows.features["label"], "dtype", None) not in ("string", "large_string"):
        return rows
    separator = source.label_separator or LABEL_SEPARATOR
    labels = [
        None if text is None else [part.strip() for part in text.split(separator) if part.strip()]
        for text in rows["label"][:]
    ]
    feature = List(Value("string"))
    return rows.remove_columns("label").add_column("label", labels, feature=feature)


def _with_targets(split: str, rows: Dataset, names: list[str], task, notes: list[str]) -> Dataset:
    targets = task.targets(split, rows, names)
    if targets is None:
        return rows
    remark = task.remark(split, rows["label"], targets)
    if remark is not None:
        notes.append(remark)
    return rows.remove_columns("label").add_column("label", targets)


def _batches(rows: Dataset, columns: list[str], size: int = 10_000) -> Iterator[tuple[int, dict]]:
    selected = rows.select_columns(columns)
    for start in range(0, len(rows), size):
        yield start, selected[start : start + size]


def text_columns(rows: Dataset) -> list[str]:
    """Those of the columns that hold texts."""
    return [column for column in ("text", "text_pair") if column in rows.column_names]


def _row_hashes(rows: Dataset, task) -> np.ndarray:
    """64 bits of SHA-256 a row's text(s), ``(N,)``."""
    columns = text_columns(rows)
    hashes = np.empty(len(rows), dtype=np.uint64)
    for start, batch in _batches(rows, columns):
        for offset, texts in enumerate(zip(*(batch[column] for column in columns), strict=True)):
            digest = hashlib.sha256("\x1f".join(map(task.plain, texts)).encode()).digest()
            hashes[start + offset] = int.from_bytes(digest[:8], "little")
    return hashes


def _fingerprint(hashes: np.ndarray, rows: Dataset, names: list[str], task) -> str:
    digest = hashlib.sha256("\x1f".join(names).encode())
    digest.update(hashes.tobytes())
    if "label" in rows.column_names:
        digest.update(task.label_bytes(rows["label"][:]))
    return digest.hexdigest()[:16]
