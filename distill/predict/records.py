"""Records of a file, one after another in constant memory; bad ones with their reason."""

import csv
import gzip
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from distill.answers.base import RecordError
from distill.core.errors import UserError

FORMATS = ("jsonl", "csv", "tsv", "parquet", "txt")
STDIN = Path("-")
# Largest field of a csv, in characters; the module's own limit is 131,072.
FIELD_LIMIT = 2**27

Numbered = tuple[int, Any]
"""Number of a record, counted from 1, and the record or a :class:`RecordError`."""


def input_format(path: Path, given: str | None) -> str:
    """Return the format of a file by its name, unless it is given; that of a pipe is jsonl.

    Raises:
        UserError: for a name that does not tell.
    """
    if given is not None:
        return given
    if path == STDIN:
        return "jsonl"
    suffixes = path.name.lower().removesuffix(".gz").rsplit(".", 1)
    suffix = {"json": "jsonl", "text": "txt"}.get(suffixes[-1], suffixes[-1])
    if len(suffixes) < 2 or suffix not in FORMATS:
        raise UserError(f"{path}: its name does not tell its format: --format {'|'.join(FORMATS)}")
    return suffix


def read_records(path: Path, format_: str, pairs: bool = False) -> Iterator[Numbered]:
    """Read the records of a file or, for ``-``, of standard input.

    Args:
        path: the file; ``.gz`` is decompressed.
        format_: one of ``FORMATS``.
        pairs: whether a tab separates two texts in lines of plain text.

    Raises:
        UserError: if there is no such file, or it cannot be read at all.
    """
    if path != STDIN and not path.is_file():
        raise UserError(f"{path}: there is no such file")
    if format_ == "parquet":
        yield from _parquet_rows(path)
        return
    with _open(path) as stream:
        if format_ in ("csv", "tsv"):
            yield from _table_rows(stream, path, "\t" if format_ == "tsv" else ",")
        else:
            parse = _parse_json if format_ == "jsonl" else _parse_pair if pairs else str
            yield from _lines(stream, parse)


def _open(path: Path) -> IO[bytes]:
    if path == STDIN:
        return sys.stdin.buffer
    if path.name.lower().endswith(".gz"):
        return cast(IO[bytes], gzip.open(path, "rb"))
    return path.open("rb")


def _lines(stream: IO[bytes], parse: Any) -> Iterator[Numbered]:
    for number, line in enumerate(stream, 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            yield number, parse(text.rstrip("\r\n"))
        except UnicodeDecodeError:
            yield number, RecordError("the line is not valid UTF-8")
        except RecordError as error:
            yield number, error


def _parse_json(line: str) -> Any:
    if not line.strip():
        raise RecordError("the line is empty")
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"the line is no JSON: {error}") from None


def _parse_pair(line: str) -> tuple[str, str]:
    first, tab, second = line.partition("\t")
    if not tab:
        raise RecordError("there is no tab between two texts")
    return first, second


def _table_rows(stream: IO[bytes], path: Path, delimiter: str) -> Iterator[Numbered]:
    csv.field_size_limit(FIELD_LIMIT)
    # What is no UTF-8 becomes a surrogate, which no record may hold.
    with io.TextIOWrapper(
        stream, encoding="utf-8-sig", errors="surrogateescape", newline=""
    ) as text:
        rows = csv.reader(text, delimiter=delimiter)
        header = next(rows, None)
        if header is None:
            return
        number = 0
        while True:
            number += 1
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield number, RecordError(f"the line is no row: {error}")
                continue
            if len(row) != len(header):
                reason = f"the row has {len(row)} fields, the header {len(header)}"
                yield number, RecordError(reason)
                continue
            yield number, dict(zip(header, row, strict=True))


def _parquet_rows(path: Path) -> Iterator[Numbered]:
    if path == STDIN:
        raise UserError("parquet cannot be read from a pipe: name the file")
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise UserError(f"{path} is no parquet file: {error}") from error
    number = 0
    for batch in file.iter_batches(batch_size=1024):
        for row in batch.to_pylist():
            number += 1
            yield number, row
