"""Folders in ``cache_dir``, named by a hash of everything that determines their content."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from distill.core.permissions import apply_umask


def cache_key(**parts: object) -> str:
    """Return a key of plain values; equal values give equal keys on every machine.

    Args:
        parts: everything that determines the content; must be convertible to JSON.

    >>> cache_key(kind="outputs", split="train")
    'eb6ea003d5f5605e5c32'
    """
    content = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()[:20]


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold the lock file beside ``path``, so that of concurrent runs only one writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        yield


def get_or_create(folder: Path, create: Callable[[Path], None]) -> bool:
    """Create a folder unless it exists, either completely or not at all.

    Args:
        folder: where the content belongs.
        create: writes the content into the temporary folder that it is called with, which is
            renamed afterwards. The temporary folder may hold what an interrupted attempt has
            written.

    Returns:
        Whether the folder existed.
    """
    if folder.is_dir():
        return True
    with file_lock(folder):
        if folder.is_dir():
            return True
        partial = folder.with_name(folder.name + ".partial")
        partial.mkdir(parents=True, exist_ok=True)
        create(partial)
        apply_umask(partial)
        partial.replace(folder)
        return False
