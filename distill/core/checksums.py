"""Checksums of kept files: a folder proves that it holds what was once written into it.

A flipped bit in stored logits trains another student, in a memory-mapped file it may end the
process; neither is noticed by whoever reads it. So every folder that is kept for later has a file
``checksums.json`` with the size and SHA-256 of its files, which are compared before they are used.
SHA-256 is the fastest of the standard library's on processors that have instructions for it
(1.8 GB/s where BLAKE2b does 0.7), and ``sha256sum`` checks a file by hand.
"""

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKSUMS = "checksums.json"
# What the checksum of a file cannot be read of: a name, not a number of the operating system.
_REGULAR = "it is no file"


class DamagedError(Exception):
    """Kept files are not what was written; the message says which, without the folder."""


@dataclass(frozen=True)
class FileChecksum:
    """What is known of one file: its size in bytes, and its SHA-256 as hexadecimal digits."""

    bytes: int
    sha256: str


def file_checksum(file: Path) -> FileChecksum:
    """Return size and hash of a file, which is read once.

    Raises:
        DamagedError: something else has its place (a folder, a pipe), or the disk cannot read it.
        OSError: the file is missing, or this process may not read it.
    """
    if not stat.S_ISREG(file.stat().st_mode):  # opening a pipe would wait forever
        raise DamagedError(f"{file.name}: {_REGULAR}")
    try:
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256")
            size = content.tell()
    except (FileNotFoundError, PermissionError):
        raise
    except OSError as error:
        raise DamagedError(f"{file.name}: it cannot be read ({error.strerror})") from error
    return FileChecksum(size, digest.hexdigest())


def write_checksums(folder: Path, name: str | None = None, files: Iterable[str] = ()) -> None:
    """Write the checksums of a folder's files, after what was written is safely on the disk.

    Args:
        folder: the folder.
        name: what the folder will be called, where the name belongs to the content (a cache key).
        files: paths of the files, relative to the folder; none: all but hidden ones.
    """
    found = {}
    for path in sorted(files or _files(folder)):
        synchronize(folder / path)
        found[path] = vars(file_checksum(folder / path))
    content = {"name": name, "files": found}
    with written_beside(folder / CHECKSUMS) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def check_folder(folder: Path, name: str | None = None, *, strict: bool = False) -> bool:
    """Compare every file of a folder with its checksum.

    Args:
        folder: the folder.
        name: the name that the checksums must have been written for; ``None``: any.
        strict: whether files without a checksum count as damage; hidden ones never do.

    Returns:
        Whether there are checksums: ``False`` for a folder that an earlier version has kept.

    Raises:
        DamagedError: a file differs, is missing, or does not belong there.
        OSError: this process may not read a file.
    """
    expected = read_checksums(folder, name)
    if expected is None:
        return False
    if strict and (unknown := sorted(set(_files(folder)) - set(expected))):
        raise DamagedError(f"{unknown[0]}: it does not belong there")
    for path, checksum in expected.items():
        check_file(folder / path, checksum)
    return True


def check_file(file: Path, expected: FileChecksum) -> None:
    """Compare one file with its checksum.

    Raises:
        DamagedError: it differs, is missing or no file.
        OSError: this process may not read it.
    """
    check_size(file, expected)
    if file_checksum(file) != expected:
        raise DamagedError(f"{file.name}: its checksum differs")


def check_size(file: Path, expected: FileChecksum) -> None:
    """Compare the size of a file with the one that was written, without reading it.

    Raises:
        DamagedError: it differs, is missing or no file.
        OSError: this process may not look at it.
    """
    try:
        found = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise DamagedError(f"{file.name}: it is missing") from None
    except PermissionError:
        raise
    except OSError as error:  # a loop of links, a disk that cannot be read
        raise DamagedError(f"{file.name}: it cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(found.st_mode):
        raise DamagedError(f"{file.name}: {_REGULAR}")
    if found.st_size != expected.bytes:
        raise DamagedError(f"{file.name}: {found.st_size} bytes in place of {expected.bytes}")


def read_checksums(folder: Path, name: str | None = None) -> dict[str, FileChecksum] | None:
    """Return the checksums of a folder's files by path; ``None`` if it has none.

    Arguments and exceptions as :func:`check_folder`.
    """
    file = folder / CHECKSUMS
    if not os.path.lexists(file):
        return None
    if not file.is_file():
        raise DamagedError(f"{CHECKSUMS}: {_REGULAR}")
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
        files = {
            str(path): FileChecksum(int(one["bytes"]), str(one["sha256"]))
            for path, one in content["files"].items()
        }
        written_for = content["name"]
    except PermissionError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedError(f"{CHECKSUMS}: it cannot be read") from error
    if name is not None and written_for != name:
        raise DamagedError(f"{CHECKSUMS}: it was written for {written_for}")
    if any(Path(path).is_absolute() or ".." in Path(path).parts for path in files):
        raise DamagedError(f"{CHECKSUMS}: it names files elsewhere")
    return files


def _files(folder: Path) -> Iterator[str]:
    """Yield the paths of everything in a folder that is no folder itself, but for hidden ones."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith(".") or entry.name == CHECKSUMS:
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from (f"{entry.name}/{path}" for path in _files(Path(entry.path)))
        else:
            yield entry.name


@contextmanager
def written_beside(file: Path) -> Iterator[Path]:
    """Yield a path in the same folder to write to; it replaces ``file`` when it is on the disk.

    A process that is killed, or a disk that is full, leaves the old file or the new one, never a
    part of one.
    """
    partial = file.with_name(f".{file.name}.partial")
    try:
        yield partial
        synchronize(partial)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    synchronize(file.parent)


def synchronize(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot do it for folders.
        if not path.is_dir():
            raise error
    finally:
        os.close(descriptor)
