"""Texts without labels: what the student learns from the teacher alone.

They come from ``data.unlabeled``, from ``data.augmentation``, or both. A text of the validation or
test split among them would be a leak, a text of train would be seen twice: both are left out.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from datasets import Dataset, Features, concatenate_datasets

from distill.core.errors import UserError
from distill.data.augmentation.base import augment
from distill.data.columns import iter_chunks
from distill.data.sources.base import DataSource
from distill.data.sources.files import FORMATS, data_suffix, read_file
from distill.data.sources.hub import read_hub

# What data sets of the hub call texts that nobody has labelled.
HUB_SPLITS = ("unsupervised", "unlabelled", "unlabeled", "train")

_UNLABELED_NOTE = (
    "{} texts without labels ({}) join the student's training; all it learns from them is what "
    "the teacher says."
)


def read_unlabeled(source: DataSource, train: Dataset, task, cache_dir: Path) -> Dataset | None:
    """The texts of ``data.unlabeled`` as they come; ``None`` if the source asks for none.

    Raises:
        UserError: if there is nothing to read.
    """
    if source.unlabeled is None:
        return None
    return _read(source, _features(train), task, cache_dir)


def build_unlabeled(
    source: DataSource,
    given: Dataset | None,
    splits: Mapping[str, Dataset],
    task,
    cache_dir: Path,
    notes: list[str],
) -> Dataset | None:
    """Read and make the texts without labels that a source asks for.

    Texts that differ in case and white space alone count as the same: a file often holds a test
    set's texts stripped or in lower case.

    Args:
        source: its ``build_unlabeled`` and ``augmentation`` say what is wanted.
        given: what :func:`read_unlabeled` has read.
        splits: the labelled examples; none of their texts is among the result.
        task: what it reads as a text.
        cache_dir: where what is read and made is kept.
        notes: what was left out, and how many there are, is added to it.

    Returns:
        Rows with the text columns of ``splits``; those of either origin in the order of a hash of
        their text. ``None`` if the source asks for none.

    Raises:
        UserError: if nothing remains.
    """
    if given is None and source.augmentation is None:
        return None
    features = _features(splits["train"])
    columns = list(features)
    known = {split: near_duplicate_keys(rows, columns, task)[0] for split, rows in splits.items()}
    parts = []
    if given is not None:
        what = f"data.unlabeled={source.unlabeled}"
        rows = _drop_known(given, columns, task, known, what, notes)
        if source.unlabeled_limit is not None and source.unlabeled_limit < len(rows):
            notes.append(
                f"{source.unlabeled_limit} of {len(rows)} texts without labels are used "
                "(data.unlabeled_limit)."
            )
            rows = rows.select(range(source.unlabeled_limit))
        notes.append(_UNLABELED_NOTE.format(len(rows), what))
        known["data.unlabeled"] = near_duplicate_keys(rows, columns, task)[0]
        parts.append(rows)
    if source.augmentation is not None:
        what = f"augmentation={source.augmentation.name}"
        rows = augment(source.augmentation, splits["train"], columns, cache_dir)
        rows = _drop_known(rows.cast(features), columns, task, known, what, notes)
        notes.append(_UNLABELED_NOTE.format(len(rows), what))
        parts.append(rows)
    return concatenate_datasets(parts)


def near_duplicate_keys(
    rows: Dataset, columns: Sequence[str], task
) -> tuple[np.ndarray, np.ndarray]:
    """Keys that are equal for texts that differ in case and white space alone.

    Returns:
        64 bits of SHA-256 a row, ``(N,)``, and whether one of the row's texts is empty, ``(N,)``.
    """
    keys, empty = np.empty(len(rows), dtype=np.uint64), np.zeros(len(rows), dtype=bool)
    for index, texts in enumerate(_texts(rows, columns)):
        plain = [
            "" if task.is_empty(text) else " ".join(task.plain(text).split()).casefold()
            for text in texts
        ]
        digest = hashlib.sha256("\x1f".join(plain).encode()).digest()
        keys[index] = int.from_bytes(digest[:8], "little")
        empty[index] = not all(plain)
    return keys, empty


def _features(rows: Dataset) -> Features:
    """The columns that hold texts, and their types."""
    names = [name for name in ("text", "text_pair") if name in rows.column_names]
    return Features({name: rows.features[name] for name in names})


def _texts(rows: Dataset, columns: Sequence[str]) -> Iterator[tuple]:
    for _, piece in iter_chunks(rows, columns):
        yield from zip(*(piece[column] for column in columns), strict=True)


def _drop_known(
    rows: Dataset,
    columns: Sequence[str],
    task,
    known: Mapping[str, np.ndarray],
    what: str,
    notes: list[str],
) -> Dataset:
    """Rows without empty texts, repetitions and what a labelled split holds, by their hash."""
    keys, empty = near_duplicate_keys(rows, columns, task)
    kept = ~empty
    left_out = {"are empty": int(empty.sum())}
    for split, theirs in known.items():
        shared = kept & np.isin(keys, theirs)
        left_out[f"stand in {split}"] = int(shared.sum())
        kept &= ~shared
    chosen = np.flatnonzero(kept)
    unique, first = np.unique(keys[chosen], return_index=True)  # sorted by key
    left_out["repeat another one"] = len(chosen) - len(unique)
    said = ", ".join(f"{count} {why}" for why, count in left_out.items() if count)
    if not len(unique):
        raise UserError(f"{what}: no text is left of {len(rows)} ({said or 'there are none'})")
    if said:
        notes.append(f"Left out of the texts without labels ({what}): {said}.")
    return rows.select(chosen[first])


def _read(source: DataSource, features: Features, task, cache_dir: Path) -> Dataset:
    path = Path(source.unlabeled).expanduser()
    what = f"data.unlabeled={source.unlabeled}"
    own = source.unlabeled_split(source.unlabeled, cache_dir)
    if own is not None:
        return _select(own, source, features, task, what)
    if path.is_file():
        files = [path]
        if data_suffix(path) not in FORMATS:
            raise UserError(f"{what}: its format is none of {', '.join(FORMATS)} (or those .gz)")
    elif path.is_dir():
        files = [file for file in sorted(path.iterdir()) if data_suffix(file) in FORMATS]
        if not files:
            raise UserError(
                f"{what}: there is no file in it of {', '.join(FORMATS)} (or those .gz)"
            )
    else:
        rows = _read_hub(source.unlabeled, what, cache_dir)
        return _select(rows, source, features, task, what)
    # What files are read with where the data are files.
    quotes, layout = getattr(source, "quotes", None), getattr(source, "layout", "auto")
    parts = [
        _select(
            read_file(file, cache_dir, quotes, layout if _is_text(file) else "auto"),
            source,
            features,
            task,
            str(file),
            data_suffix(file),
        )
        for file in files
    ]
    return concatenate_datasets(parts)


def _is_text(file: Path) -> bool:
    """Whether its lines may be words, should the labelled files' be."""
    return FORMATS[data_suffix(file)] not in ("json", "parquet")


def _read_hub(name: str, what: str, cache_dir: Path) -> Dataset:
    path, _, subset = name.partition(":")
    if path.count("/") != 1 or path.startswith((".", "~", "/")) or data_suffix(Path(path)):
        raise UserError(f"{what}: there is no such file or folder")
    splits = read_hub(path, subset or None, cache_dir)
    for split in HUB_SPLITS:
        if split in splits:
            return splits[split]
    raise UserError(f"{what} has none of the splits {', '.join(HUB_SPLITS)}: {', '.join(splits)}")


def _select(
    rows: Dataset, source: DataSource, features: Features, task, what: str, suffix: str = ""
) -> Dataset:
    """The columns of the labelled data, under our names; a txt file's only one is ``text``."""
    pair = "text_pair" if source.text_pair == "auto" else source.text_pair
    wanted = {
        "text": "text" if suffix == ".txt" and "text" in rows.column_names else source.text,
        "text_pair": pair,
    }
    wanted = {ours: wanted[ours] for ours in features}
    for ours, theirs in wanted.items():
        if theirs not in rows.column_names:
            raise UserError(
                f"data.{ours}={theirs}: {what} has no such column, "
                f"it has {', '.join(rows.column_names)}"
            )
        task.check_texts(ours, what, rows.features[theirs])
    rows = rows.select_columns(list(wanted.values()))
    rows = rows.rename_columns({theirs: ours for ours, theirs in wanted.items() if ours != theirs})
    # Files of several formats join only if their types are the very same.
    return rows.select_columns(list(features)).cast(features)
