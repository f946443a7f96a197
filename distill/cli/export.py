"""The command ``distill-export``: write a run's model for another runtime, and check it."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from distill.core.errors import UserError
from distill.core.terminal import printable
from distill.export.format_names import NAMES

EPILOG = """\
The export is compared with the model on the run's test texts, and refused where they differ.
Exit code: 0; 1 when the export is refused; 2 for a mistake.

  distill-export runs/NAME --format numpy -o model
  python model/predictor.py < texts.txt       # needs numpy and tokenizers, nothing else
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    args = _parser().parse_args(argv)
    try:
        return _export(args)
    except UserError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 2


def _export(args: argparse.Namespace) -> int:
    run = args.run.expanduser()
    if not run.is_dir():
        raise UserError(f"{args.run}: there is no such folder")
    from distill.core.third_party_logging import silence_third_party_logging

    silence_third_party_logging()
    from distill.export.export import ExportRefusedError, export_model

    try:
        folder = export_model(run, args.what, args.format, args.output, args.allow_code)
    except ExportRefusedError as error:
        print(f"refused: {printable(str(error))}", file=sys.stderr)
        return 1
    check = json.loads((folder / "export.json").read_text(encoding="utf-8"))["check"]
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(
        f"wrote {folder} ({size / 1e6:.1f} MB)\n"
        f"on {check['texts']} test texts no logit differs by more than "
        f"{check['largest_difference']:.1g}, {check['changed_answers']} answers change\n"
        f"one text, tokenized and answered: {check['export_cpu_ms']:.3g} ms of processor time, "
        f"{check['torch_cpu_ms']:.3g} ms in torch"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="distill-export",
        description="Write a run's student for another runtime, checked on the run's test texts.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="the run's folder")
    add("--format", choices=NAMES, default="numpy", help="numpy (default): without torch")
    add(
        "--what", choices=("student", "control"), default="student",
        help="which of the run's models (default: student)",
    )  # fmt: skip
    add(
        "-o", "--output", type=Path, metavar="FOLDER",
        help="new folder (default: RUN/student/FORMAT)",
    )  # fmt: skip
    add(
        "--allow-code", action="append", default=[], metavar="PACKAGE",
        help="use the classes of another package that the run's config names; repeatable",
    )  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())
