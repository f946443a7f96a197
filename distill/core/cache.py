"""Folders in ``cache_dir``, named by a hash of everything that determines their content."""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from distill.core import checksums
from distill.core.checksums import DamagedError
from distill.core.permissions import apply_umask

log = logging.getLogger(__name__)

# In each kept folder: the run folders that have used it; its time is that of the last use.
USERS = ".runs"
# In each run folder: the kept folders that it uses, as KIND/NAME, also when it has been moved.
USED = "cache.txt"
_RUN: ContextVar["_Run | None"] = ContextVar("_RUN", default=None)

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


@dataclass
class _Run:
    """The run that uses the cache, and what it has used before it was allowed to begin."""

    folder: Path
    waiting: list[str] | None = field(default_factory=list)


@contextmanager
def used_by(run: Path) -> Iterator[None]:
    """Note in each kept folder that is used within the context that this run uses it.

    Args:
        run: the run's folder; nothing is written into it before :func:`begin_run`.
    """
    token = _RUN.set(_Run(run.absolute()))
    try:
        yield
    finally:
        _RUN.reset(token)


def begin_run() -> None:
    """Note what is used in the run's folder, too: it is certain now that it is this run's."""
    run = _RUN.get()
    if run is not None and run.waiting is not None:
        names, run.waiting = run.waiting, None
        with suppress(OSError):
            for name in names:
                _add_line(run.folder / USED, name)


def note_use(folder: Path) -> None:
    """Note the run that uses a kept folder, and the time; not in a cache that is read-only."""
    run, name = _RUN.get(), f"{folder.parent.name}/{folder.name}"
    with suppress(OSError):
        (folder / USERS).touch()
        if run is not None:
            _add_line(folder / USERS, str(run.folder))
            if run.waiting is None:
                _add_line(run.folder / USED, name)
            else:
                run.waiting.append(name)


def _add_line(file: Path, line: str) -> None:
    if line not in read_lines(file):
        with file.open("a", encoding="utf-8") as lines:
            lines.write(f"{line}\n")


def read_lines(file: Path) -> list[str]:
    """Return the lines of :data:`USERS` or :data:`USED`; none where there is no such file."""
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []


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
    existed = _is_whole(folder)
    if not existed:
        with file_lock(folder):
            existed = discard_damaged(folder, adopt)
            if not existed:
                _create(folder, create)
    note_use(folder)
    return existed


def _create(folder: Path, create: Callable[[Path], None]) -> None:
    partial = folder.with_name(folder.name + ".partial")
    if not partial.is_dir():
        remove(partial)
    partial.mkdir(parents=True, exist_ok=True)
    create(partial)
    apply_umask(partial)
    checksums.write_checksums(partial, folder.name)
    partial.replace(folder)
    checksums.synchronize(folder.parent)


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
