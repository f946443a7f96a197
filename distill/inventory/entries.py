"""Kept folders of the cache: size, age, the runs that use them, and whether they are whole."""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from distill.core.cache import USED, USERS, read_lines
from distill.core.checksums import CHECKSUMS, DamagedError, check_folder
from distill.core.errors import UserError

#: What each folder of the cache holds.
KINDS = {
    "teachers": "fine-tuned teachers",
    "outputs": "stored outputs of teachers",
    "controls": "controls",
    "control_usual_lengths": "controls of the usual length",
    "baselines": "linear models on words",
    "tokens": "a teacher's output for each token",
    "vectors": "sentence vectors",
    "augmented": "augmented text",
    "data": "data that come with the program",
    "files": "tables read from files",
    "prepared": "prepared data sets",
    "encoded": "data sets as token ids",
    "datasets": "the cache of the library datasets",
}
#: Where kinds are folders of another library, with neither keys nor checksums.
FOREIGN = ("datasets",)
#: Endings of what an interrupted process, or the discovery of damage, has left behind.
LEFTOVERS = (".partial", ".damaged")


@dataclass
class Entry:
    """One kept folder.

    Attributes:
        kind: folder of the cache that it lies in, one of :data:`KINDS` as a rule.
        path: the folder.
        bytes: size of its files.
        created: seconds since the epoch.
        last_used: seconds since the epoch.
        users: run folders that have used it and are still there.
        gone: number of run folders that have used it and are not there any more.
        is_leftover: whether it is a part of something, or damaged and set aside.
        state: ``ok``, ``no checksums`` or what is damaged; ``None``: not verified.
    """

    kind: str
    path: Path
    bytes: int
    created: float
    last_used: float
    users: list[Path] = field(default_factory=list)
    gone: int = 0
    is_leftover: bool = False
    state: str | None = None

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.path.name

    @property
    def is_damaged(self) -> bool:
        """Whether verification found that it is not what was written."""
        return self.state not in (None, "ok", "no checksums")

    def verify(self) -> None:
        """Compare all files with their checksums."""
        if self.is_leftover:
            self.state = "left over"
            return
        try:
            found = check_folder(self.path, self.name, strict=True)
            self.state = "ok" if found else "no checksums"
        except (DamagedError, OSError) as damage:
            self.state = f"damaged: {' '.join(str(damage).split())}"


def find_entries(
    cache_dir: Path, kinds: Sequence[str] = (), runs: Sequence[Path] = ()
) -> list[Entry]:
    """Return the kept folders of a cache, by kind and name.

    Args:
        cache_dir: the cache.
        runs: run folders, which may have been moved since they used the cache.
        kinds: of these kinds only; none: all.

    Raises:
        UserError: there is no such folder, or no such kind.
    """
    if not cache_dir.is_dir():
        raise UserError(f"{cache_dir}: there is no cache (--cache-dir names another)")
    there = sorted(path.name for path in cache_dir.iterdir() if path.is_dir())
    for kind in kinds:
        if kind not in KINDS and kind not in there:
            raise UserError(f"--kind {kind}: there are {', '.join(sorted({*KINDS, *there}))}")
    found = [
        entry
        for kind in there
        if not kinds or kind in kinds
        for entry in _entries_of(cache_dir / kind)
    ]
    by_name = {f"{entry.kind}/{entry.name}": entry for entry in found}
    for run in runs:
        for name in read_lines(run / USED):
            entry = by_name.get(name)
            if entry is not None and run.absolute() not in entry.users:
                entry.users.append(run.absolute())
    return found


def _entries_of(folder: Path) -> Iterator[Entry]:
    for path in sorted(folder.iterdir()):
        if not path.is_dir() or path.is_symlink():
            continue
        status = path.stat()
        created = _time(path / CHECKSUMS, status.st_mtime)
        runs = [Path(line) for line in read_lines(path / USERS)]
        users = [run for run in runs if is_run(run)]
        yield Entry(
            kind=folder.name,
            path=path,
            bytes=folder_bytes(path),
            created=created,
            last_used=_time(path / USERS, created),
            users=users,
            gone=len(runs) - len(users),
            is_leftover=path.name.endswith(LEFTOVERS),
        )


def is_run(path: Path) -> bool:
    """Return whether a folder is that of a run, finished or not."""
    return any((path / name).is_file() for name in ("config.yaml", "report.json"))


def folder_bytes(path: Path) -> int:
    """Return the size of all files in a folder; links count as themselves."""
    total = 0
    for root, _, files in os.walk(path):
        for name in files:
            try:
                total += (Path(root) / name).lstat().st_size
            except OSError:  # removed in the meantime
                continue
    return total


def _time(path: Path, default: float) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return default


def age(seconds: float, now: float | None = None) -> str:
    """Write how long ago a time was: ``3 d``, ``5 h``, ``2 min``."""
    passed = max(0.0, (time.time() if now is None else now) - seconds)
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if passed >= length:
            return f"{int(passed // length)} {unit}"
    return "now"
