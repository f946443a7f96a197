"""The inventory as text and as JSON."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from distill.inventory.entries import KINDS, Entry, age
from distill.inventory.runs import RunFolder
from distill.reporting.text import plain_table, short


def size(count: int) -> str:
    """Write a number of bytes: ``12.3 MB``."""
    return f"{short(count)}B" if count >= 1000 else f"{count} B"


def entries_table(entries: Sequence[Entry]) -> list[str]:
    """Return the lines of the cache's table, a block for each kind."""
    lines: list[str] = []
    for kind, group in groupby(entries, key=lambda entry: entry.kind):
        of_kind = list(group)
        total = size(sum(entry.bytes for entry in of_kind))
        lines += [f"{kind}: {KINDS.get(kind, 'of unknown kind')}, {len(of_kind)}, {total}"]
        rows = [
            [f"  {one.name}", size(one.bytes), age(one.created), age(one.last_used), _users(one)]
            + ([one.state] if one.state else [])
            for one in of_kind
        ]
        head = ["  name", "size", "made", "used", "runs"]
        lines += plain_table(head + (["checked"] if of_kind[0].state else []), rows)
        lines.append("")
    return lines


def _users(entry: Entry) -> str:
    if entry.is_leftover:
        return "left over"
    if not entry.users:
        return "none"
    names = ", ".join(run.name for run in entry.users[:2])
    return names if len(entry.users) < 3 else f"{names} and {len(entry.users) - 2} more"


def runs_table(runs: Sequence[RunFolder]) -> list[str]:
    """Return the lines of the runs' table: each run, then its models and exported forms."""
    rows: list[list[str]] = []
    is_checked = any(run.damage is not None for run in runs)
    for run in runs:
        checked = [_damage(run)] if is_checked else []
        rows.append([str(run.path), size(run.bytes), age(run.changed), run.state, *checked])
        for name, count in run.models.items():
            rows.append([f"  {name}", size(count), "", "", *([""] if is_checked else [])])
    head = ["run", "size", "changed", "state"] + (["checked"] if is_checked else [])
    return plain_table(head, rows)


def _damage(run: RunFolder) -> str:
    if not run.damage:
        return "ok"
    where, what = next(iter(run.damage.items()))
    more = f" and {len(run.damage) - 1} more" if len(run.damage) > 1 else ""
    return f"damaged: {'' if where == '.' else f'{where}: '}{what}{more}"


def as_json(entries: Sequence[Entry], runs: Sequence[RunFolder]) -> dict[str, Any]:
    """Return everything as plain values; times in UTC."""
    return {
        "cache": [
            {
                "kind": one.kind,
                "name": one.name,
                "path": str(one.path),
                "bytes": one.bytes,
                "created": _utc(one.created),
                "last_used": _utc(one.last_used),
                "runs": [str(run) for run in one.users],
                "runs_gone": one.gone,
                "left_over": one.is_leftover,
                "checked": one.state,
            }
            for one in entries
        ],
        "runs": [
            {
                "path": str(run.path),
                "bytes": run.bytes,
                "changed": _utc(run.changed),
                "state": run.state,
                "models": run.models,
                "damage": run.damage,
            }
            for run in runs
        ],
    }


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
