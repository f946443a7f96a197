"""The command ``distill-export``: write a run's model for another runtime, and check it."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from distill.core.errors import UserError
from distill.core.terminal import printable
from distill.export.format_names import NAMES

if TYPE_CHECKING:
    from distill.export.export import Exported

EPILOG = """\
The export is compared with the model on the run's test split, in batches of several shapes and
beside other texts, and refused where it is not equal; then nothing is left of it.
Exit code: 0; 1 when the export is refused; 2 for a mistake.

  distill-export runs/NAME                                  # runs/NAME/student/onnx/model.onnx
  distill-export runs/NAME --quantize int8                  # and model_int8.onnx
  distill-export runs/NAME --quantize int8 --neighbors fast
  distill-export runs/NAME --format numpy -o model
  python model/predictor.py < texts.txt       # needs numpy and tokenizers, nothing else
  distill-export runs/NAME --push USER/NAME   # and upload the student, its card and every form
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
    from distill.export.checks import ExportRefusedError
    from distill.export.export import ExportOptions, export_model
    from distill.export.push import check_push, push

    options = ExportOptions(
        args.what, args.format, args.quantize, args.neighbors, args.accept, args.output,
        args.allow_code,
    )  # fmt: skip
    if args.push is not None:
        if args.output is not None or args.what == "teacher":
            raise UserError("--push uploads the run's student or control: leave out -o and teacher")
        check_push(run / args.what, args.push)
    elif args.public:
        raise UserError("--public is about --push: give it, too")
    try:
        exported = export_model(run, options)
    except ExportRefusedError as error:
        print(f"refused: {printable(str(error))}", file=sys.stderr)
        return 1
    print("\n".join(_lines(exported)))
    if args.push is not None:
        print(f"uploaded to {push(run / args.what, args.push, private=not args.public)}")
    return 0


def _lines(exported: "Exported") -> list[str]:
    lines = []
    for name, form in exported.record["forms"].items():
        lines.append(
            f"wrote {exported.folder / form['file']} ({form['bytes'] / 1e6:.1f} MB), {name}: one "
            f"text takes {form['cpu_ms']['p50']:.3g} ms of processor time, "
            f"{form['times_faster_than_torch']:.2g} times less than in torch"
        )
        if "candidate" in form:
            lines.append(
                f"  chosen of {', '.join(form['candidates'])}: {form['candidate']}; "
                + (
                    "answers do not depend on neighbors"
                    if form["neighbors"] == "independent"
                    else "an answer may depend on the others of its batch"
                )
            )
        for check in form["checks"]:
            verdict = "passed" if check["passed"] else "FAILED, accepted"
            lines.append(f"  {check['name']}: {verdict}: {check['reason']}")
    if exported.report is not None:
        from distill.reporting.run_report import serve_line

        lines += [line for line in [serve_line(exported.report)] if line]
    return lines


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="distill-export",
        description="Write a run's model for another runtime, checked on the run's test split.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="the run's folder")
    add(
        "--format", choices=NAMES, default="onnx",
        help="onnx (default; extra onnx), or numpy: small students, without torch and onnxruntime",
    )  # fmt: skip
    add(
        "--what", choices=("student", "control", "teacher"), default="student",
        help="which of the run's models (default: student)",
    )  # fmt: skip
    add(
        "--quantize", choices=("none", "int8"), default="none",
        help="int8: also a smaller and faster model; several are made, the fastest that passes the "
        "checks is kept",
    )  # fmt: skip
    add(
        "--neighbors", choices=("independent", "fast"), default="independent",
        help="independent (default): a text has the same answer whatever stands beside it; fast: "
        "also int8 models with one scale for a whole batch",
    )  # fmt: skip
    add(
        "--accept", action="store_true",
        help="keep an int8 model although it has lost quality or decides otherwise",
    )  # fmt: skip
    add(
        "-o", "--output", type=Path, metavar="FOLDER",
        help="new folder (default: RUN/student/FORMAT, whose forms become models of the report)",
    )  # fmt: skip
    add(
        "--push", metavar="USER/NAME",
        help="upload the model's folder with card and exported forms to the Hugging Face hub, as a "
        "private repository",
    )  # fmt: skip
    add("--public", action="store_true", help="with --push: a new repository is public")
    add(
        "--allow-code", action="append", default=[], metavar="PACKAGE",
        help="use the classes of another package that the run's config names; repeatable",
    )  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())
