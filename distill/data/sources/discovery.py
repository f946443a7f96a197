"""Which files of a folder hold which split."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from distill.core.errors import UserError
from distill.data.sources.base import SPLIT_NAMES

# Names of splits inside of longer file names, in addition to those that are whole names.
_NAME_PARTS = SPLIT_NAMES | {"testa": "validation", "testb": "test"}
_SHARD = re.compile(r"(?P<name>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})")
# Numbered files in a folder per split, as the hub converts data sets: default/train/0000.parquet.
_NUMBERED = re.compile(r"\d+")

IsData = Callable[[Path], bool]
SplitFiles = dict[str, list[Path]]


def find_split_files(folder: Path, is_data: IsData, notes: list[str]) -> SplitFiles:
    """Return the files of each split in a folder, in the order of their rows.

    Files are called like a split (``train.csv``, ``dev-v2.0.json``), else a part of their names is
    one (``ratings_train.txt``, ``en_ewt-ud-dev.conllu``); a split may have several numbered files
    (``train-00000-of-00002.parquet``). Where the folder itself has none, they are looked for in
    the snapshot of a hub cache, in ``data`` and in the only folder below that has some.

    Args:
        folder: the folder.
        is_data: whether a file is of a format that can be read.
        notes: names that were not the usual ones are appended.

    Raises:
        UserError: if a split has several files, a numbered file is missing, or several folders
            below have a training file.
    """
    found = _files_in(folder, is_data, notes)
    if "train" in found:
        return found
    snapshot = _hub_snapshot(folder)
    if snapshot is not None:
        return find_split_files(snapshot, is_data, notes)
    below = sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    inside: dict[Path, SplitFiles] = {}
    for path in below:
        own = _files_in(path, is_data, notes)
        if "train" not in own:
            own = _numbered_files(path, is_data)
        if "train" in own:
            inside[path] = own
    if not inside:
        return found or _numbered_files(folder, is_data)
    if len(inside) > 1:
        raise UserError(
            f"data.path={folder}: several folders in it have a training file: name one of "
            + ", ".join(f"data.path={path}" for path in list(inside)[:4])
        )
    return next(iter(inside.values()))


def split_of(name: str, exact: bool) -> str | None:
    """Return the split that a file's name speaks of; ``None`` if it names none or several.

    Args:
        name: the name without the suffix of its format.
        exact: whether the whole name must be that of a split, but for a version (``train-v1.1``).
    """
    name = name.lower()
    if exact:
        return SPLIT_NAMES.get(re.sub(r"[-_]v\d+$", "", name.split(".")[0]))
    splits = {_NAME_PARTS[part] for part in re.split(r"[\W_]+", name) if part in _NAME_PARTS}
    return splits.pop() if len(splits) == 1 else None


def _files_in(folder: Path, is_data: IsData, notes: list[str]) -> SplitFiles:
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and is_data(file)]
    found: SplitFiles = {}
    for exact in (True, False):
        groups: dict[str, dict[str, list[Path]]] = {}
        for file in files:
            shard = _SHARD.match(file.name)
            name = shard["name"] if shard else file.name
            split = split_of(name, exact)
            if split is not None and (exact or split not in found):
                groups.setdefault(split, {}).setdefault(name if shard else file.name, []).append(
                    file
                )
        for split, named in groups.items():
            if len(named) > 1:
                names = ", ".join(named[key][0].name for key in sorted(named)[:3])
                raise UserError(
                    f"{folder} has two files for {split} ({names}): "
                    "name one with data.path={train: ..., test: ...}"
                )
            (parts,) = named.values()
            _check_complete(parts)
            found[split] = parts
            if not exact:
                notes.append(f"{parts[0].name} was taken for the {split} split.")
        if "train" in found:
            break
    return found


def _check_complete(files: Sequence[Path]) -> None:
    """Raise a ``UserError`` if one of several numbered files is missing."""
    shard = _SHARD.match(files[0].name)
    if shard is None:
        return
    count = int(shard["count"])
    numbers = {int(match["number"]) for file in files if (match := _SHARD.match(file.name))}
    missing = [number for number in range(count) if number not in numbers]
    if missing:
        raise UserError(
            f"{files[0].parent}: of the {count} files of {shard['name']}, number {missing[0]:05d} "
            "is missing"
        )


def _numbered_files(folder: Path, is_data: IsData) -> SplitFiles:
    """Return the files ``0000.parquet``, ... in folders that are called like splits."""
    found: SplitFiles = {}
    for path in sorted(folder.iterdir()):
        split = SPLIT_NAMES.get(path.name.lower())
        if split is None or not path.is_dir():
            continue
        files = [
            file
            for file in sorted(path.iterdir())
            if file.is_file() and is_data(file) and _NUMBERED.fullmatch(file.name.split(".")[0])
        ]
        if files:
            found[split] = files
    return found


def _hub_snapshot(folder: Path) -> Path | None:
    """Return the snapshot in a data set's folder of the hub's cache."""
    snapshots = folder / "snapshots"
    if not snapshots.is_dir():
        return None
    main = folder / "refs" / "main"
    if main.is_file() and (snapshots / main.read_text(encoding="utf-8").strip()).is_dir():
        return snapshots / main.read_text(encoding="utf-8").strip()
    found = sorted(path for path in snapshots.iterdir() if path.is_dir())
    if len(found) > 1:
        raise UserError(
            f"data.path={folder}: it has {len(found)} snapshots: name one, data.path={found[0]}"
        )
    return found[0] if found else None


def describe_content(folder: Path) -> str:
    """Describe what a folder holds, for messages."""
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    more = ", ..." if len(names) > 6 else ""
    return f"it holds {', '.join(names[:6])}{more}" if names else "it is empty"
