"""The command ``distill-models``: what cache and runs hold, whether it is whole, what may go."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from distill.core.errors import UserError
from distill.core.terminal import printable

if TYPE_CHECKING:
    from distill.inventory.entries import Entry
    from distill.inventory.removal import Rules

EPILOG = """\
Runs are found in and under every PATH (default: runs, if there is such a folder). Damaged parts of
the cache are made anew when they are needed next. Exit code: 0; 1 when --verify finds damage, or
a process uses what was to be removed; 2 for a mistake.

  distill-models                                    what is there
  distill-models --verify runs                      compare every file with its checksum
  distill-models --remove --unused --older-than 30d what would go
  distill-models --remove --unused --older-than 30d --yes
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    try:
        code = _inventory(_parser().parse_args(argv))
        sys.stdout.flush()
        return code
    except UserError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader (head, less) has closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _inventory(args: argparse.Namespace) -> int:
    from distill.inventory import listing
    from distill.inventory.entries import find_entries
    from distill.inventory.removal import Rules, parse_age
    from distill.inventory.runs import find_runs

    older_than = parse_age(args.older_than) if args.older_than else None
    rules = Rules(args.unused, older_than, args.damaged)
    if rules.are_given and not args.remove:
        raise UserError("--unused, --older-than and --damaged say what --remove removes: add it")
    if args.remove and not rules.are_given:
        raise UserError("--remove: say what, by --unused, --older-than AGE or --damaged")
    if args.yes and not args.remove:
        raise UserError("--yes: it confirms --remove")
    paths = args.path or [path for path in (Path("runs"),) if path.is_dir()]
    runs = find_runs(paths)
    entries = find_entries(args.cache_dir or default_cache(), args.kind, [run.path for run in runs])
    if args.verify or args.damaged:
        for entry in entries:
            entry.verify()
        for run in runs:
            run.verify()
    if silent := sum(run.is_silent for run in runs):
        print(f"runs of an earlier version, which do not say what they use: {silent}",
              file=sys.stderr)  # fmt: skip
    if args.remove:
        return _remove(entries, rules, args.yes)
    if args.json:
        print(json.dumps(listing.as_json(entries, runs), indent=2, ensure_ascii=False))
    else:
        total = listing.size(sum(entry.bytes for entry in entries))
        lines = [f"cache {args.cache_dir or default_cache()}: {len(entries)} folders, {total}", ""]
        lines += listing.entries_table(entries)
        lines += listing.runs_table(runs) if runs else ["no runs were found"]
        print(printable("\n".join(lines)))
    damaged = any(entry.is_damaged for entry in entries) or any(run.damage for run in runs)
    return 1 if damaged else 0


def _remove(entries: Sequence[Entry], rules: Rules, confirmed: bool) -> int:
    from distill.inventory.listing import entries_table, size
    from distill.inventory.removal import remove_entries, select

    chosen, needed = select(entries, rules)
    if needed:
        print(f"kept, for a run refers to them: {len(needed)}")
    total = size(sum(entry.bytes for entry in chosen))
    if not confirmed:
        print(printable("\n".join(entries_table(chosen))), end="")
        print(f"would be removed: {len(chosen)}, {total} (--yes removes them)")
        return 0
    removed, busy = remove_entries(chosen)
    print(f"removed: {len(removed)}, {size(sum(entry.bytes for entry in removed))}")
    for entry in busy:
        print(printable(f"in use by another process, kept: {entry.path}"), file=sys.stderr)
    return 1 if busy else 0


def default_cache() -> Path:
    """Return the cache that ``distill`` uses without ``cache_dir``."""
    import platformdirs

    return Path(os.environ.get("DISTILL_CACHE") or platformdirs.user_cache_dir("distill"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="distill-models",
        description="What cache and runs hold: size, age, which run uses what; verify and remove.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("path", nargs="*", type=Path, metavar="PATH", help="run folders, or folders above them")
    add("--cache-dir", type=Path, metavar="DIR", help="another cache than $DISTILL_CACHE's")
    add("--kind", action="append", default=[], metavar="KIND",
        help="this kind only, such as teachers or outputs; repeatable")  # fmt: skip
    add("--verify", action="store_true", help="compare every file with its checksum")
    add("--json", action="store_true", help="print JSON")
    add("--remove", action="store_true", help="remove what all rules that follow name")
    add("--unused", action="store_true", help="rule: no run that is still there has used it")
    add("--older-than", metavar="AGE", help="rule: not used for so long, such as 30d, 12h or 2w")
    add("--damaged", action="store_true",
        help="rule: damaged, or left over from an interrupted process")  # fmt: skip
    add("--yes", action="store_true", help="remove; without it, what would go is shown")
    return parser
