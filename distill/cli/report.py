"""The command ``distill-report``: compare any number of runs, without importing torch."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from distill.core.errors import UserError
from distill.core.terminal import printable

if TYPE_CHECKING:
    from distill.reporting.formats import Format

EPILOG = """\
Runs are found in and under every PATH. Those that differ only by their seed are averaged.
Exit code: 0; 1 when a budget question has no answer within the limits; 2 for a mistake.

  distill-report runs
  distill-report runs/sweep -o report.html -o front.png
  distill-report runs --x latency_ms --y macro_f1 --format csv
  distill-report runs --at-most latency_ms=5 --at-least accuracy=0.90
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    try:
        code = _report(_parser().parse_args(argv))
        sys.stdout.flush()
        return code
    except UserError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader (head, less) has closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _report(args: argparse.Namespace) -> int:
    from distill.reporting.budget import answer, parse_limit
    from distill.reporting.compare import compare
    from distill.reporting.formats import FORMATS, TextFormat, load_plugins, terminal_width
    from distill.reporting.gather import gather

    load_plugins()
    if args.format and args.format not in FORMATS:
        raise UserError(f"--format {args.format}: there are {', '.join(sorted(FORMATS))}")
    outputs = [(path, _format(path, args.format)) for path in args.output]
    printed = FORMATS[args.format or "table"]
    if not outputs and not isinstance(printed, TextFormat):
        raise UserError(f"--format {args.format} is not text: name the file with -o FILE")
    limits = [parse_limit(limit, True) for limit in args.at_most]
    limits += [parse_limit(limit, False) for limit in args.at_least]
    reference = {
        limit.name: limit.value for limit in (parse_limit(part, True) for part in args.reference)
    }
    runs, unfinished = gather(args.path)
    if not runs:
        found = "; ".join(map(str, unfinished)) or "no report.json, config.yaml or error.txt"
        raise UserError(f"no finished run in {', '.join(map(str, args.path))}: {found}")
    comparison = compare(runs, unfinished, args.x, args.y, reference)
    if limits:
        comparison.answer = answer(comparison, limits)
    for path, chosen in outputs:
        path.parent.mkdir(parents=True, exist_ok=True)
        chosen.save(comparison, path)
        print(printable(f"wrote {path}"))
    if not outputs and isinstance(printed, TextFormat):
        print(printable(printed.render(comparison, terminal_width()).rstrip("\n")))
    if comparison.answer and (outputs or args.format == "csv"):
        print(printable(comparison.answer.text), file=sys.stdout if outputs else sys.stderr)
    return 1 if comparison.answer and not comparison.answer.within else 0


def _format(path: Path, name: str | None) -> Format:
    """Return the format of an output file.

    Raises:
        UserError: ``--format`` contradicts the suffix, or nothing names a format.
    """
    from distill.reporting.formats import FORMATS, format_of

    by_suffix = format_of(path)
    if name and by_suffix and name != by_suffix.name:
        raise UserError(
            f"-o {path} is {by_suffix.name} by its suffix, --format says {name}: drop one"
        )
    if name:
        return FORMATS[name]
    if by_suffix is None:
        suffixes = ", ".join(sorted(known.suffix for known in FORMATS.values()))
        raise UserError(f"-o {path}: end it in {suffixes}, or add --format")
    return by_suffix


def _parser() -> argparse.ArgumentParser:
    # Neither the formats nor what other packages add is imported for --help: it takes longer.
    from distill.reporting.format_names import SUFFIXES
    from distill.reporting.quantities import costs

    suffixes = " ".join(sorted(SUFFIXES.values()))
    parser = argparse.ArgumentParser(
        prog="distill-report",
        description="Compare runs: one table, the Pareto front, a figure or a page to send.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("path", nargs="+", type=Path, metavar="PATH", help="run folder, sweep, or a folder above")
    add(
        "-f",
        "--format",
        metavar="NAME",
        help=f"what is printed (default: table), or written where -o FILE has no suffix: "
        f"{', '.join(sorted(SUFFIXES))}, or a format of another package",
    )
    add(
        *("-o", "--output"),
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help=f"write FILE ({suffixes}) instead of printing; repeatable",
    )
    add(
        "--x",
        default="parameters",
        metavar="COST",
        help=f"one of {', '.join(costs())} (default: parameters)",
    )
    add("--y", metavar="METRIC", help="any metric that was measured (default: the runs' own)")
    add(
        "--at-most",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="budget: name the best run within it, or the nearest; repeatable",
    )
    add(
        "--at-least",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="the same, from below",
    )
    add(
        "--reference",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="the hypervolume's reference in x or y (default: the teacher's cost, and 0)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
