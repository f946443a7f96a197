"""Make the golden files, or compare with them: ``python -m tests.golden.freeze [--check]``."""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.golden.cases import GROUPS, Group
from tests.golden.compare import EXPECTED, differences, golden, how
from tests.golden.record import machine, render
from tests.golden.run import run_group


def main(argv: Sequence[str] | None = None) -> int:
    """Freeze or check groups; 1 if there is a difference."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden.freeze", description=__doc__)
    names = [group.name for group in GROUPS]
    parser.add_argument("group", nargs="*", metavar="GROUP", help=f"of {', '.join(names)}")
    parser.add_argument("--check", action="store_true", help="compare and print differences")
    given = parser.parse_args(argv)
    unknown = sorted(set(given.group) - set(names))
    if unknown:
        parser.error(f"there is no group {', '.join(unknown)}")
    chosen = [group for group in GROUPS if not given.group or group.name in given.group]
    found = [check(group) if given.check else freeze(group) for group in chosen]
    return int(any(found))


def freeze(group: Group) -> bool:
    """Write a group's golden file."""
    started = time.process_time()
    content = {"machine": machine(), "cases": _run(group)}
    EXPECTED.mkdir(exist_ok=True)
    (EXPECTED / f"{group.name}.json").write_text(render(content) + "\n", encoding="utf-8")
    refused = [name for name, case in content["cases"].items() if case["exit"]]
    seconds = time.process_time() - started
    print(f"{group.name}: {len(content['cases'])} cases, {seconds:.1f} s CPU, refused: {refused}")
    return False


def check(group: Group) -> bool:
    """Print where a group differs from its golden file; whether it does."""
    comparison = how(group)
    lines = differences(golden(group)["cases"], _run(group), comparison == "to-the-bit")
    print("\n".join([f"{group.name} ({comparison}): {len(lines)} differences", *lines]))
    return bool(lines)


def _run(group: Group) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        return run_group(group, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
