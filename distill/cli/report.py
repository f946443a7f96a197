"""``distill-report``: compare any number of runs; imports no torch, trains nothing."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from distill.core.errors import UserError

EPILOG = """\
Runs are found in and under every PATH. Those that differ only by their seed are put together.
Exit code: 0; 1 when a budget question has no answer within the limits; 2 for a mistake.

  distill-report runs
  distill-report runs/sweep -o report.html -o front.png
  distill-report runs --x latency_ms --y macro_f1 --format csv
  distill-report runs --at-most latency_ms=5 --at-least accuracy=0.90
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    try:
        code = _report(_parser().parse_args(argv))
        sys.stdout.flush()
        return code
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _report(args: argparse.Namespace) -> int:
    from distill.reporting.budget import answer, parse_limit
    from distill.reporting.compare import compare
    from distill.reporting.formats import FIGURES, render, save, terminal_width
    from distill.reporting.gather import gather

    outputs = [(path, _format(path, args.format)) for path in args.output]
    if not outputs and args.format in FIGURES:
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
    for path, kind in outputs:
        path.parent.mkdir(parents=True, exist_ok=True)
        save(comparison, path, kind)
        print(f"wrote {path}")
    if not outputs:
        kind = args.format or "table"
        print(render(comparison, kind, terminal_width()).rstrip("\n"))
    if comparison.answer and (outputs or args.format == "csv"):
        print(comparison.answer.text, file=sys.stdout if outputs else sys.stderr)
    return 1 if comparison.answer and not comparison.answer.within else 0


def _format(path: Path, kind: str | None) -> str:
    from distill.reporting.formats import SUFFIXES

    by_suffix = SUFFIXES.get(path.suffix.lower())
    if kind and by_suffix and kind != by_suffix:
        raise UserError(f"-o {path} is {by_suffix} by its suffix, --format says {kind}: drop one")
    if not (kind or by_suffix):
        raise UserError(f"-o {path}: end it in {', '.join(SUFFIXES)}, or add --format")
    return by_suffix or kind


def _parser() -> argparse.ArgumentParser:
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
        choices=("table", "markdown", "csv", "json", "html", "png", "svg"),
        help="what is printed (default: table), or written where -o FILE has no suffix",
    )
    add(
        *("-o", "--output"),
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="write FILE (.txt .md .csv .json .html .png .svg) instead of printing; repeatable",
    )
    add(
        "--x",
        default="parameters",
        metavar="COST",
        help="parameters (default), bytes, latency_ms or multiply_accumulates",
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
