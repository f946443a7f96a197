"""Faults of kept files: what a disk, a copy, a sync or a person does to them."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
from safetensors.numpy import load_file, save_file


def flip(file: Path, draw: Random) -> None:
    """Flip one bit anywhere."""
    content = bytearray(file.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    file.write_bytes(content)


def truncate(file: Path, draw: Random) -> None:
    """Cut the file short."""
    os.truncate(file, draw.randrange(1, file.stat().st_size))


def empty(file: Path, draw: Random) -> None:
    """Leave nothing in it."""
    os.truncate(file, 0)


def foreign(file: Path, draw: Random) -> None:
    """Put something else in its place."""
    file.write_bytes(b"<!DOCTYPE html><title>404</title>" * 20)


def zeros(file: Path, draw: Random) -> None:
    """Keep its length, as a crashed file system does."""
    file.write_bytes(bytes(file.stat().st_size))


def missing(file: Path, draw: Random) -> None:
    """Remove it."""
    file.unlink()


def folder(file: Path, draw: Random) -> None:
    """Put a folder in its place."""
    file.unlink()
    file.mkdir()


def swapped(file: Path, draw: Random) -> None:
    """Put another kept file of the same name in its place."""
    others = [other for other in file.parent.parent.rglob(file.name) if other != file]
    if others:
        shutil.copy(draw.choice(sorted(others)), file)
    else:
        foreign(file, draw)


def negated(file: Path, draw: Random) -> None:
    """Multiply rows or weights by -3."""
    _change(file, lambda values: values * -3)


def not_a_number(file: Path, draw: Random) -> None:
    """Make some values no numbers."""
    _change(file, lambda values: np.full_like(values, np.nan))


def _change(file: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    if file.suffix == ".npy":
        values = np.load(file)
        values[: len(values) // 3] = change(values[: len(values) // 3])
        np.save(file, values)
    else:
        tensors = load_file(file)
        name = next(name for name, value in tensors.items() if value.dtype == np.float32)
        save_file({**tensors, name: change(tensors[name])}, file, {"format": "pt"})


FAULTS: dict[str, Callable[[Path, Random], None]] = {
    "one flipped bit": flip, "cut short": truncate, "empty": empty, "foreign": foreign,
    "zeros": zeros, "missing": missing, "a folder in its place": folder, "swapped": swapped,
    "values times -3": negated, "not a number": not_a_number,
}  # fmt: skip


def applies(fault: str, file: Path) -> bool:
    """Return whether a file has the values that a fault changes."""
    if fault in ("values times -3", "not a number"):
        return file.suffix in (".npy", ".safetensors")
    return not (fault == "missing" and file.name == "checksums.json")


def kinds(cache: Path) -> list[tuple[str, Path]]:
    """Return one file of each name in each kind of kept entry; the curves are left out."""
    found: dict[tuple[str, str], Path] = {}
    for file in sorted(cache.rglob("*")):
        if file.is_file() and not file.name.endswith(".lock") and "tfevents" not in file.name:
            kind = file.relative_to(cache).parts[0]
            found.setdefault((kind, file.name), file)
    return [(kind, file) for (kind, _), file in found.items()]


def snapshot(folder: Path) -> dict[str, tuple[int, str]]:
    """Return time of change and hash of every file of a folder."""
    return {
        str(file.relative_to(folder)): (
            file.stat().st_mtime_ns, hashlib.sha256(file.read_bytes()).hexdigest(),
        )
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }  # fmt: skip
