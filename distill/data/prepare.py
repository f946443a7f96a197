"""From a source's own rows to checked splits with one set of column names."""

import copy
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, List, Value

from distill.core.cache import cache_key, get_or_create
from distill.core.errors import UserError
from distill.data.columns import content_hash, iter_chunks, iter_values
from distill.data.sources.base import DataSource
from distill.data.unlabeled import build_unlabeled, read_unlabeled

# A split that is missing is cut from train: this share of it, at most so many examples.
HELD_OUT_SHARE, MAX_HELD_OUT = 0.1, 2000
# Between the labels of one example, where they are text.
LABEL_SEPARATOR = ","
SPLITS = ("train", "validation", "test")
# So many rows are in memory at a time.
CHUNK_ROWS = 10_000
# What options are called in cache keys where they were renamed: prepared data are found again.
_KEY_NAMES = {"unlabeled": "unlabelled", "unlabeled_limit": "unlabelled_limit"}


@dataclass(frozen=True)
class PreparedData:
    """Checked examples, ready for any tokenizer.

    Attributes:
        name: what reports call them.
        splits: ``train``, ``validation`` and ``test``, each with the columns ``text``, perhaps
            ``text_pair``, and ``label`` (what the task makes of it: an id, a number, a 0 or 1 for
            each class, an id for each word, answers; none without labels); with texts that have
            no labels also ``build_unlabeled``, all of whose labels are the task's ``no_label``.
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


def prepare_data(source: DataSource, task, cache_dir: Path) -> PreparedData:
    """Read a source, check every row, cut what is missing and turn labels into what the task takes.

    Rows that stay in train are in the order of a hash of their text, so a smaller
    ``data.limit`` takes a subset of what a larger one takes, whatever the file's order.

    The result is kept in ``cache_dir`` under a key of all bytes that were read, of every setting
    and of the task's own code, and memory-mapped: a later run neither checks nor hashes a row.

    Raises:
        UserError: for every mistake in the data that can be found before training.
    """
    if source.label_separator is not None and not task.many_labels:
        raise UserError(
            f"data.label_separator={source.label_separator}: task={task.name} has one label an "
            "example, task=multi_label has many"
        )
    read = source.read(cache_dir)
    source = _resolve_columns(source, task, read)
    read = {split: task.tidied(rows, source.label) for split, rows in read.items()}
    splits = {
        split: _select_columns(split, read[split], source, task)
        for split in SPLITS
        if split in read
    }
    for split, rows in splits.items():
        for column in text_columns(rows):
            task.check_texts(column, split, rows.features[column])
    given = read_unlabeled(source, splits["train"], task, cache_dir)
    folder = cache_dir / "prepared" / _prepared_key(source, task, splits, given)
    get_or_create(
        folder, lambda partial: _prepare_splits(source, task, splits, given, cache_dir, partial)
    )
    kept = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    rows = {split: Dataset.from_file(str(folder / f"{split}.arrow")) for split in kept["hashes"]}
    task.know(kept["label_names"])
    return PreparedData(source.name, rows, fingerprint=kept["hashes"]["test"], **kept)


def _prepared_key(
    source: DataSource, task, splits: dict[str, Dataset], given: Dataset | None
) -> str:
    """Of everything that determines what is prepared."""
    settings = {
        _KEY_NAMES.get(option.name, option.name): getattr(source, option.name)
        for option in fields(DataSource)
        if option.name not in ("name", "max_length", "batch_size", "augmentation")
    }
    more = source.augmentation
    return cache_key(
        kind="prepared", format=2, settings=settings,
        splits={split: content_hash(rows) for split, rows in splits.items()},
        unlabelled=given and content_hash(given),
        augmentation=more and {"name": more.name, "settings": more.settings()},
        task=[type(task).__name__, task.settings, _code_hash(type(task))],
    )  # fmt: skip


def _code_hash(kind: type) -> str:
    """Hash of the code that prepares: a class's own files, and all of distill's data and tasks."""
    files = {getattr(sys.modules[base.__module__], "__file__", None) for base in kind.__mro__}
    here = Path(__file__).parent
    files |= {str(file) for folder in (here, here.parent / "tasks") for file in folder.glob("*.py")}
    digest = hashlib.sha256()
    for file in sorted(filter(None, files)):
        digest.update(Path(file).read_bytes())
    return digest.hexdigest()


def _prepare_splits(
    source: DataSource,
    task,
    splits: dict[str, Dataset],
    given: Dataset | None,
    cache_dir: Path,
    folder: Path,
) -> None:
    """Do all the work, and write a file a split and ``data.json``."""
    notes: list[str] = []
    if task.many_labels:
        splits = {split: _split_label_lists(rows, source) for split, rows in splits.items()}
    checked = {
        split: _drop_empty_rows(split, rows, source, task, notes) for split, rows in splits.items()
    }
    checked, evaluated_on = _complete_splits(checked, source, notes)
    splits = {split: rows for split, (rows, _) in checked.items()}
    keys = {split: hashes for split, (_, hashes) in checked.items()}
    names = task.label_names(splits, source.labels)
    targets = {split: _targets(split, rows, names, task, notes) for split, rows in splits.items()}
    more = build_unlabeled(source, given, splits, task, cache_dir, notes)
    if more is not None:
        splits["unlabelled"], keys["unlabelled"] = more, _row_hashes(more, task)[0]
        targets["unlabelled"] = _repeat_label(task.no_label(names), len(more), targets["train"])
    shared = int(np.isin(keys["test"], keys["train"]).sum())
    if shared:
        notes.append(f"{shared} of the {len(keys['test'])} evaluated texts also stand in train.")
    for split, rows in splits.items():
        _write_split(folder / f"{split}.arrow", rows, targets[split])
    hashes = {split: _fingerprint(keys[split], targets[split], names, task) for split in splits}
    kept = {"label_names": names, "evaluated_on": evaluated_on, "hashes": hashes, "notes": notes}
    (folder / "data.json").write_text(json.dumps(kept), encoding="utf-8")


def _targets(
    split: str, rows: Dataset, names: Sequence[str], task, notes: list[str]
) -> Sequence | None:
    targets = task.targets(split, rows, names)
    if targets is not None:
        remark = task.remark(split, rows["label"], targets)
        if remark is not None:
            notes.append(remark)
    return targets


def _repeat_label(no_label: Any, count: int, like: Sequence) -> Sequence:
    """The label of rows that have none, in the form of other rows' targets."""
    if not isinstance(like, np.ndarray):
        return [no_label] * count
    one = np.asarray(no_label, dtype=like.dtype)
    return np.broadcast_to(one, (count, *one.shape))


def _write_split(file: Path, rows: Dataset, targets: Sequence | None) -> None:
    """Rows in their order with targets for labels, to be memory-mapped."""
    texts = rows.select_columns(text_columns(rows)).with_format("arrow")
    if targets is not None and not isinstance(targets, np.ndarray):
        targets = pa.array(targets)  # of several types: those of one piece may not tell them all
    stream = None
    for start in range(0, len(rows), CHUNK_ROWS):
        piece = texts[start : start + CHUNK_ROWS].replace_schema_metadata(None)
        if targets is not None:
            own = targets[start : start + CHUNK_ROWS]
            own = own.tolist() if isinstance(own, np.ndarray) and own.ndim > 1 else own
            piece = piece.append_column("label", pa.array(own))
        stream = stream or pa.ipc.new_stream(str(file), piece.schema)
        # Rows gathered by index come as a chunk each, and every chunk would be a batch of its own.
        stream.write_table(piece.combine_chunks())
    stream.close()


def _resolve_columns(source: DataSource, task, read: Mapping[str, Dataset]) -> DataSource:
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


def _select_columns(split: str, rows: Dataset, source: DataSource, task) -> Dataset:
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


def _drop_empty_rows(
    split: str, rows: Dataset, source: DataSource, task, notes: list[str]
) -> tuple[Dataset, np.ndarray]:
    """The rows whose texts are not empty, and their hashes."""
    if len(rows) == 0:
        raise UserError(f"{split} has no examples")
    hashes, empty = _row_hashes(rows, task)
    if not empty:
        return rows, hashes
    if source.empty == "error":
        raise UserError(
            f"{len(empty)} texts of {split} are empty (the first in row {empty[0] + 1}): "
            "mend them or leave them out with data.empty=drop"
        )
    notes.append(f"{len(empty)} empty texts of {split} were left out.")
    kept = np.setdiff1d(np.arange(len(rows)), empty)
    if not len(kept):
        raise UserError(f"every text of {split} is empty")
    return rows.select(kept), hashes[kept]


def _complete_splits(
    splits: dict[str, tuple[Dataset, np.ndarray]], source: DataSource, notes: list[str]
) -> tuple[dict[str, tuple[Dataset, np.ndarray]], str]:
    """All three splits, each with the hashes of its rows, and which one is evaluated."""
    splits = dict(splits)
    evaluated_on = "test"
    if "test" in splits and _has_no_labels(splits["test"][0]):
        del splits["test"]
        notes.append("The test split has no labels and is not used.")
    if "test" not in splits and "validation" in splits:
        splits["test"] = splits.pop("validation")
        evaluated_on = "validation"
        notes.append("There is no labelled test split: the validation split serves as one.")
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


def _has_no_labels(rows: Dataset) -> bool:
    if "label" not in rows.column_names:
        return False

    def none(value: Any) -> bool:
        return value in (None, -1, "-1", "-1.0", "")

    return all(
        all(map(none, value)) if isinstance(value, list) else none(value)
        for value in iter_values(rows, "label")
    )


def _split_label_lists(rows: Dataset, source: DataSource) -> Dataset:
    """Labels that are text with separators, as csv has them, as lists; none where it is empty."""
    if getattr(rows.features["label"], "dtype", None) not in ("string", "large_string"):
        return rows
    separator = source.label_separator or LABEL_SEPARATOR
    labels = [
        pa.array(
            [
                None
                if text is None
                else [part.strip() for part in text.split(separator) if part.strip()]
                for text in piece["label"]
            ],
            pa.list_(pa.string()),
        )
        for _, piece in iter_chunks(rows, ["label"], CHUNK_ROWS)
    ]
    feature = List(Value("string"))
    return rows.remove_columns("label").add_column(
        "label", pa.chunked_array(labels), feature=feature
    )


def text_columns(rows: Dataset) -> list[str]:
    """Those of the columns that hold texts."""
    return [column for column in ("text", "text_pair") if column in rows.column_names]


def _row_hashes(rows: Dataset, task) -> tuple[np.ndarray, list[int]]:
    """64 bits of SHA-256 a row's text(s), ``(N,)``, and which rows have an empty one instead."""
    columns = text_columns(rows)
    hashes, empty = np.zeros(len(rows), dtype=np.uint64), []
    for start, piece in iter_chunks(rows, columns, CHUNK_ROWS):
        for row, texts in enumerate(
            zip(*(piece[column] for column in columns), strict=True), start
        ):
            if any(task.is_empty(text) for text in texts):
                empty.append(row)
                continue
            digest = hashlib.sha256("\x1f".join(map(task.plain, texts)).encode()).digest()
            hashes[row] = int.from_bytes(digest[:8], "little")
    return hashes, empty


def _fingerprint(hashes: np.ndarray, targets: Sequence | None, names: list[str], task) -> str:
    digest = hashlib.sha256("\x1f".join(names).encode())
    digest.update(hashes.tobytes())
    if targets is not None:
        for start in range(0, len(targets), CHUNK_ROWS):
            digest.update(task.label_bytes(targets[start : start + CHUNK_ROWS]))
    return digest.hexdigest()[:16]
