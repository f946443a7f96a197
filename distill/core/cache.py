"""Things kept in ``cache_dir`` under a hash of everything that determines them."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock


def cache_key(**parts) -> str:
    """A key from plain values; equal parts give equal keys on every machine."""
    content = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()[:20]


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold the lock beside ``path``, so that runs side by side make a thing once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        yield


def get_or_create(folder: Path, make: Callable[[Path], None]) -> bool:
    """Make a folder if it is not there yet, whole or not at all.

    Args:
        folder: where it belongs.
        make: writes its content into the folder it is given, which is renamed when it is whole.
            The folder may hold what an interrupted attempt has left there.

    Returns:
        Whether it was there already.
    """
    if folder.is_dir():
        return True
    with file_lock(folder):
        if folder.is_dir():
            return True
        partial = folder.with_name(folder.name + ".partial")
        partial.mkdir(parents=True, exist_ok=True)
        make(partial)
        partial.replace(folder)
        return False
