"""The command ``distill-predict``: answers for a file of records, in order."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from distill.core.errors import UserError

EPILOG = """\
A record is a line of jsonl (an object with the data's columns, a text, or two), a row of csv, tsv
or parquet, or a line of txt; .gz is read, too. Answers come in the same order, each with the number
of its record; one that cannot be answered has the reason in "error", and the rest goes on.
Exit code: 0; 1 when a record was bad; 2 for a mistake.

  distill-predict runs/NAME texts.jsonl -o answers.jsonl
  cat texts.txt | distill-predict runs/NAME --format txt | head
  distill-predict runs/NAME big.csv.gz --text review -o answers.csv --resume
  distill-predict runs/NAME big.parquet -o part-$I.jsonl --shard $I/8      # a job array
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    try:
        code = _predict(_parser().parse_args(argv))
        sys.stdout.flush()
        return code
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader (head, less) has closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _predict(args: argparse.Namespace) -> int:
    from distill.predict import Predictor
    from distill.predict.job import JobOptions, run_job

    columns = {"text": args.text, "text_pair": args.text_pair}
    options = JobOptions(
        input=args.file,
        output=args.output,
        input_format=args.format,
        output_format=args.output_format,
        everything=args.all,
        columns={role: name for role, name in columns.items() if name is not None},
        pairs=args.pairs,
        keep=args.keep.split(",") if args.keep else (),
        shard=_shard(args.shard),
        resume=args.resume,
    )
    predictor = Predictor(args.model, form=args.form, model=args.what, threads=args.threads)
    result = run_job(predictor, options)
    if result.first_bad is not None:
        line, reason = result.first_bad
        print(
            f"{result.bad:,} of {result.records:,} records are bad; the first is line {line}: "
            f"{reason}",
            file=sys.stderr,
        )
    return 1 if result.bad else 0


def _shard(given: str) -> tuple[int, int]:
    part, _, parts = given.partition("/")
    if part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts):
        return int(part), int(parts)
    raise UserError(f"--shard {given}: part and number of parts, 1/8 to 8/8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="distill-predict",
        description="Answer the records of a file with a run's student, or any saved model.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("model", type=Path, metavar="RUN|DIR", help="a run, a saved or an exported model")
    add(
        "file", type=Path, nargs="?", default=Path("-"), metavar="FILE",
        help="the records; - or nothing: standard input",
    )  # fmt: skip
    add(
        "-o", "--output", type=Path, default=Path("-"), metavar="FILE",
        help="jsonl, csv or parquet by its name (default: jsonl on standard output)",
    )  # fmt: skip
    add("--format", choices=("jsonl", "csv", "tsv", "parquet", "txt"), help="of the records")
    add("--output-format", choices=("jsonl", "csv", "parquet"), help="of the answers")
    add("--text", metavar="COLUMN", help="column of the text, if not the data's own")
    add("--text-pair", metavar="COLUMN", help="column of the second text")
    add("--pairs", action="store_true", help="in txt, a tab separates two texts")
    add("--keep", metavar="COLUMN,...", help="columns that are copied to the answers")
    add("--all", action="store_true", help="scores of all classes, not of the answer alone")
    add(
        "--form", choices=("torch", "onnx", "int8", "numpy"),
        help="default: of the exported forms that passed the fastest, else torch",
    )  # fmt: skip
    add("--what", choices=("student", "control"), default="student", help="which model of a run")
    add("--threads", type=int, metavar="N", help="threads of one batch (default: the runtime's)")
    add("--shard", default="1/1", metavar="I/N", help="every Nth record, from the Ith")
    add("--resume", action="store_true", help="continue the output of an interrupted job")
    return parser


if __name__ == "__main__":
    sys.exit(main())
