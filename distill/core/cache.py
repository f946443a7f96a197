"""Folders in ``cache_dir``, named by a hash of everything that determines their content."""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from distill.core import checksums
from distill.core.checksums import DamagedError
from distill.core.permissions import apply_umask

log = logging.getLogger(__name__)

# Seconds of waiting for another process after which the log says so.
WAIT_WITHOUT_NOTICE = 1.0


def cache_key(**parts: object) -> str:
    """Return a key of plain values; equal values give equal keys on every machine.

    Args:
        parts: everything that determines the content; must be convertible to JSON.

    >>> cache_key(kind="outputs", split="train")
    'eb6ea003d5f5605e5c32'
    """
    content = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()[:20]


def entry_name(*parts: str) -> str:
    """Return the name of a kept folder: parts that may come from anywhere, made harmless.

    >>> entry_name("../../half", "films", "eb6e")
    '--..-half-films-eb6e'
    """
    *names, key = parts
    return "-".join([*(re.sub(r"[^\w.+,=-]+|^\.+", "-", name)[:80] for name in names), key])


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold the lock file beside ``path``, so that of concurrent runs only one writes it.

    A log line says for what this process waits, if it has to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{path}.lock")
    try:
        lock.acquire(timeout=WAIT_WITHOUT_NOTICE)
    except Timeout:
        log.info("cache: another process is making %s, waiting for it", path)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def get_or_create(
    folder: Path, create: Callable[[Path], None], adopt: Callable[[Path], bool] | None = None
) -> bool:
    """Create a folder unless it exists, either completely or not at all.

    What exists is compared with its checksums, see :mod:`distill.core.checksums`. A damaged folder
    is set aside as ``NAME.damaged`` and made anew, with a line in the log. So is one without
    checksums, which an earlier version has kept and nothing can prove to be whole, unless it is
    expensive and adopted.

    Args:
        folder: where the content belongs.
        create: writes the content into the temporary folder that it is called with, which is
            renamed afterwards. The temporary folder may hold what an interrupted attempt has
            written.
        adopt: for what takes long to make: whether a folder without checksums looks whole. It is
            then used and gets checksums.

    Returns:
        Whether the folder existed.
    """
    if _is_whole(folder):
        return True
    with file_lock(folder):
        if discard_damaged(folder, adopt):
            return True
        partial = folder.with_name(folder.name + ".partial")
        if not partial.is_dir():
            remove(partial)
        partial.mkdir(parents=True, exist_ok=True)
        create(partial)
        apply_umask(partial)
        checksums.write_checksums(partial, folder.name)
        partial.replace(folder)
        checksums.synchronize(folder.parent)
        return False


def _is_whole(folder: Path) -> bool:
    """Return whether a folder is there and as it was written."""
    try:
        return folder.is_dir() and checksums.check_folder(folder, folder.name, strict=True)
    except DamagedError:
        return False


def discard_damaged(folder: Path, adopt: Callable[[Path], bool] | None = None) -> bool:
    """Return whether a folder is there and as it was written; put it out of the way if it is not.

    Arguments as :func:`get_or_create`, whose lock is held.
    """
    if not os.path.lexists(folder):
        return False
    try:
        if not folder.is_dir():
            raise DamagedError("it is no folder")
        if checksums.check_folder(folder, folder.name, strict=True):
            return True
    except DamagedError as damage:
        aside = folder.with_name(folder.name + ".damaged")
        remove(aside)
        folder.replace(aside)
        log.warning("cache: %s is damaged (%s): made anew, set aside as %s", folder, damage, aside)
        return False
    if adopt is not None and adopt(folder):
        log.info(
            "cache: %s is of an earlier version, which wrote no checksums: used as it is", folder
        )
        checksums.write_checksums(folder, folder.name)
        return True
    log.info("cache: %s is of an earlier version, which wrote no checksums: made anew", folder)
    remove(folder)
    return False


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
