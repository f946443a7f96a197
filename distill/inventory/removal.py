"""What may be removed of the cache, by rule; never what a run refers to or a process uses."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from distill.core.cache import remove
from distill.core.errors import UserError
from distill.inventory.entries import FOREIGN, Entry

UNITS = {"min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@dataclass(frozen=True)
class Rules:
    """Which entries are to go: those that every given rule names.

    Attributes:
        unused: no run that is still there has used it.
        older_than: not used for so many seconds.
        damaged: damaged, or left over from an interrupted process.
    """

    unused: bool = False
    older_than: float | None = None
    damaged: bool = False

    @property
    def are_given(self) -> bool:
        """Whether there is any rule."""
        return self.unused or self.damaged or self.older_than is not None


def parse_age(text: str) -> float:
    """Return the seconds of ``30d``, ``12h``, ``2w`` or ``45min``.

    Raises:
        UserError: it is none of these.

    >>> parse_age("2d")
    172800.0
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(min|h|d|w)", text.strip())
    if found is None:
        raise UserError(f"--older-than {text}: write a number and a unit, such as 30d, 12h or 2w")
    return float(found[1]) * UNITS[found[2]]


def select(
    entries: Sequence[Entry], rules: Rules, now: float | None = None
) -> tuple[list[Entry], list[Entry]]:
    """Return the entries that the rules name, and those of them that stay for a run needs them.

    Damaged entries and leftovers are of use to nobody: they go whoever refers to them.
    """
    now = time.time() if now is None else now
    named = [
        entry
        for entry in entries
        if (not rules.damaged or entry.is_damaged or entry.is_leftover)
        and (not rules.unused or not entry.users)
        and (rules.older_than is None or now - entry.last_used > rules.older_than)
    ]
    kept = [one for one in named if one.users and not (one.is_damaged or one.is_leftover)]
    return [one for one in named if one not in kept], kept


def remove_entries(entries: Sequence[Entry]) -> tuple[list[Entry], list[Entry]]:
    """Remove entries, and return those that were removed and those that a process is using.

    Lock files stay: another process may be waiting for one.
    """
    removed, busy = [], []
    for entry in entries:
        if entry.kind in FOREIGN:
            remove(entry.path)
            removed.append(entry)
            continue
        lock = FileLock(f"{_whole(entry.path)}.lock")
        try:
            with lock.acquire(timeout=0):
                remove(entry.path)
                removed.append(entry)
        except Timeout:
            busy.append(entry)
            continue
    return removed, busy


def _whole(path: Path) -> Path:
    """Return the path of the entry that a leftover belongs to."""
    return path.with_name(re.sub(r"\.(partial|damaged)$", "", path.name))
