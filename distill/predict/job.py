"""Batch prediction: a file in, a file out, in order, in constant memory, resumable."""

import hashlib
import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill.answers.base import RecordError
from distill.core.errors import UserError
from distill.predict.exported import file_hash
from distill.predict.predictor import Predictor
from distill.predict.records import STDIN, Numbered, input_format, read_records
from distill.predict.writers import (
    ERROR,
    LINE,
    AnswerWriter,
    CsvWriter,
    JsonLinesWriter,
    ParquetWriter,
)

WINDOW = 1024
"""Number of records that are read before batches are formed among them by length."""
OUTPUT_FORMATS = ("jsonl", "csv", "parquet")


@dataclass(frozen=True)
class JobOptions:
    """What is predicted, and how it is written.

    Attributes:
        input: the file; ``-``: standard input.
        output: the file; ``-``: standard output.
        input_format: ``None``: by the file's name.
        output_format: ``None``: by the file's name, or jsonl.
        everything: whether to add the scores of all classes.
        columns: names of the inputs' columns by role, where they are others than the data's.
        pairs: whether a tab separates two texts in lines of plain text.
        keep: columns that are copied from the records.
        shard: number of this part, from 1, and of all parts: every so many-th record.
        resume: whether to continue what an interrupted job has written.
    """

    input: Path = STDIN
    output: Path = STDIN
    input_format: str | None = None
    output_format: str | None = None
    everything: bool = False
    columns: dict[str, str] = field(default_factory=dict)
    pairs: bool = False
    keep: Sequence[str] = ()
    shard: tuple[int, int] = (1, 1)
    resume: bool = False


@dataclass
class JobResult:
    """What a job came to.

    Attributes:
        records: number of records that were answered or found bad.
        bad: number of bad ones.
        first_bad: number and reason of the first.
    """

    records: int = 0
    bad: int = 0
    first_bad: tuple[int, str] | None = None


def run_job(predictor: Predictor, options: JobOptions) -> JobResult:
    """Predict the records of a file.

    Raises:
        UserError: if the file cannot be read, the output exists, or belongs to another job.
    """
    format_ = input_format(options.input, options.input_format)
    if options.input != STDIN and not options.input.is_file():
        raise UserError(f"{options.input}: there is no such file")
    for role, name in options.columns.items():
        if role not in predictor.reader.columns:
            raise UserError(f"--{role.replace('_', '-')} {name}: the model reads one text")
        predictor.reader.columns[role] = [name]
    done = _begin(predictor, options, format_)
    result = JobResult()
    if done is None:
        return result
    pairs = options.pairs or bool(predictor.reader.pairs)
    part, parts = options.shard
    records: Iterator[Numbered] = (
        (number, record)
        for number, record in read_records(options.input, format_, pairs)
        if (number - part) % parts == 0
    )
    with _writer(predictor, options, done) as writer, _progress() as progress:
        # Whole windows are left out; one that is begun is computed again, so that its batches, on
        # which the last digits depend, are those of an uninterrupted job.
        records = itertools.islice(records, done // WINDOW * WINDOW, None)
        skip = done % WINDOW
        for window in _windows(records):
            rows = _answer(predictor, window, options, result)
            writer.write(rows[skip:])
            skip = 0
            progress(result.records)
    if options.output != STDIN and writer.resumes:
        _write_state(options.output, _state(predictor, options, format_) | {"finished": True})
    return result


def _windows(records: Iterator[Numbered]) -> Iterator[list[Numbered]]:
    while window := list(itertools.islice(records, WINDOW)):
        yield window


def _answer(
    predictor: Predictor, window: Sequence[Numbered], options: JobOptions, result: JobResult
) -> list[dict[str, Any]]:
    """Return a row for each record of a window."""
    good = [record for _, record in window if not isinstance(record, RecordError)]
    answers = iter(predictor.answers(good, everything=options.everything))
    rows = []
    for number, record in window:
        answer = record if isinstance(record, RecordError) else next(answers)
        row: dict[str, Any] = {LINE: number}
        if options.keep and isinstance(record, dict):
            row |= {name: record.get(name) for name in options.keep}
        if isinstance(answer, RecordError):
            row[ERROR] = str(answer)
            result.bad += 1
            result.first_bad = result.first_bad or (number, str(answer))
        else:
            row |= answer
        rows.append(row)
    result.records += len(rows)
    return rows


# --- output -------------------------------------------------------------------------------------


def _output_format(options: JobOptions) -> str:
    if options.output_format is not None:
        return options.output_format
    if options.output == STDIN:
        return "jsonl"
    suffix = options.output.suffix.lstrip(".").lower()
    if suffix not in OUTPUT_FORMATS:
        raise UserError(
            f"{options.output}: its name does not tell its format: --output-format "
            f"{'|'.join(OUTPUT_FORMATS)}"
        )
    return suffix


@contextmanager
def _writer(predictor: Predictor, options: JobOptions, done: int) -> Iterator[AnswerWriter]:
    format_ = _output_format(options)
    columns = [LINE, *options.keep, *predictor.reader.fields]
    if options.everything and "scores" not in columns:
        columns.append("scores")
    columns.append(ERROR)
    if format_ == "parquet":
        writer: AnswerWriter = ParquetWriter(options.output, columns)
        yield writer
        writer.close()
        return
    if options.output == STDIN:
        stream = sys.stdout.buffer
        writer = JsonLinesWriter(stream) if format_ == "jsonl" else CsvWriter(stream, columns)
        yield writer
        writer.close()
        return
    with options.output.open("ab") as file:
        writer = (
            JsonLinesWriter(file)
            if format_ == "jsonl"
            else CsvWriter(file, columns, header=file.tell() == 0)
        )
        yield writer
        writer.close()


# --- resuming -----------------------------------------------------------------------------------


def state_file(output: Path) -> Path:
    """Return the file beside an output that says which job it is of."""
    return output.with_name(output.name + ".job.json")


def _begin(predictor: Predictor, options: JobOptions, format_: str) -> int | None:
    """Return the number of records that are done already; ``None``: all of them.

    Raises:
        UserError: if the output exists and is not to be continued, or is of another job.
    """
    output, written = options.output, _output_format(options)
    if output == STDIN:
        if options.resume:
            raise UserError("--resume continues a file: name it with -o")
        if written == "parquet":
            raise UserError("parquet cannot be written to a pipe: name a file with -o")
        return 0
    if options.resume and (written == "parquet" or options.input == STDIN):
        what = "parquet" if written == "parquet" else "standard input"
        raise UserError(f"--resume: {what} cannot be continued, jsonl and csv of a file can")
    if not output.parent.is_dir():
        raise UserError(f"{output.parent}: there is no such folder")
    if written == "parquet":
        if output.exists():
            raise UserError(f"{output} exists: name another file, or remove it")
        return 0
    state = _state(predictor, options, format_)
    if not options.resume or not output.exists():
        if output.exists():
            raise UserError(f"{output} exists: --resume continues it; or remove it")
        _write_state(output, state)
        return 0
    file = state_file(output)
    if not file.is_file():
        raise UserError(f"{output} cannot be continued: {file} is missing")
    before = json.loads(file.read_text(encoding="utf-8"))
    finished = before.pop("finished", False)
    if different := [name for name in state if before.get(name) != state[name]]:
        raise UserError(
            f"{output} is of another job: {', '.join(different)} differs; remove it to begin anew"
        )
    if finished:
        return None
    lines = _drop_partial_line(output)
    return max(0, lines - 1) if written == "csv" else lines


def _state(predictor: Predictor, options: JobOptions, format_: str) -> dict[str, Any]:
    """Return what makes two jobs the same."""
    settings = {
        "reader": predictor.reader.settings,
        "tokenizer": vars(predictor.tokenizer.settings),
        "input_format": format_,
        "everything": options.everything,
        "pairs": options.pairs,
        "keep": list(options.keep),
        "shard": list(options.shard),
        "output_format": _output_format(options),
        "window": WINDOW,
    }
    content = json.dumps(settings, sort_keys=True, default=list)
    return {
        "model": predictor.model_hash,
        "input": None if options.input == STDIN else file_hash(options.input),
        "options": hashlib.sha256(content.encode()).hexdigest(),
    }


def _write_state(output: Path, state: dict[str, Any]) -> None:
    file = state_file(output)
    partial = file.with_name(file.name + ".partial")
    partial.write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
    partial.replace(file)


def _drop_partial_line(output: Path) -> int:
    """Cut what follows the last whole line, and return the number of whole lines."""
    lines = end = position = 0
    with output.open("r+b") as file:
        while block := file.read(1 << 20):
            lines += block.count(b"\n")
            if (last := block.rfind(b"\n")) >= 0:
                end = position + last + 1
            position += len(block)
        file.truncate(end)
    return lines


@contextmanager
def _progress() -> Iterator[Any]:
    """Yield a function that shows the number of records on a terminal, a few times a second."""
    start = shown = time.monotonic()
    terminal = sys.stderr.isatty()

    def show(records: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if terminal and now - shown > 0.2:
            shown = now
            print(f"\r{records:,} records, {records / (now - start):,.0f}/s ",
                  end="", file=sys.stderr, flush=True)  # fmt: skip

    try:
        yield show
    finally:
        if terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
