"""Reader of tables: csv, tsv and the like, strictly.

What a lenient reader passes over changes texts and labels without a word: a quote that is left open
swallows the rows up to the next one, a field too many shifts the columns, a file of another
encoding or separator is one column. Here each is read as it is meant, refused with its line, or
noted.
"""

import csv
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import Literal, TextIO

import pyarrow as pa

from distill.core.errors import UserError
from distill.data.readers.options import ReadingOptions
from distill.data.readers.stored import CHUNK_ROWS, Notes
from distill.data.readers.text_file import open_text

# Separators that are tried where the usual one gives a single column, and their names.
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
# Number of records that decide on the separator and on columns without a name.
_SNIFFED = 200
# A quoted text of this number of lines is noted.
MANY_LINES = 50
# A column of more different values holds no labels by which swallowed rows are recognized.
_MOST_LABELS = 50
_MAX_FIELD = 1 << 30
_ESCAPED = re.compile(r"\\[\\\"]")


@dataclass(frozen=True)
class _Dialect:
    """How the fields of a line are told apart."""

    separator: str
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL
    escape: str | None = None

    def records(self, lines: TextIO) -> Iterator[tuple[int, list[str]]]:
        """Yield the records with the number of the line that each begins in.

        Empty lines are skipped.

        Raises:
            _QuoteError: for a quote that is not closed, or closed inside a field.
        """
        reader = csv.reader(
            lines, delimiter=self.separator, quoting=self.quoting, escapechar=self.escape,
            strict=True,
        )  # fmt: skip
        start = 1
        while True:
            try:
                record = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise _QuoteError(start, reader.line_num) from error
            if record and (len(record) > 1 or record[0].strip()):
                yield start, record
            start = reader.line_num + 1


class _QuoteError(Exception):
    """A quoted field does not end where it should."""

    def __init__(self, first: int, last: int):
        super().__init__(first, last)
        self.first, self.last = first, last


def read_table(
    file: Path, options: ReadingOptions, default_separator: str, notes: Notes
) -> Iterator[pa.Table]:
    """Yield the rows of a table in chunks; all columns are strings.

    Columns without a name are called by their number, from 1. A text without fields is no row.

    Args:
        file: the file, which may be compressed (.gz).
        options: see :class:`ReadingOptions`.
        default_separator: what usually separates the fields of such a file.
        notes: what was noticed is appended.

    Raises:
        UserError: for a line with too many or too few fields, a quote that is not closed, a column
            name that stands twice, or a file that cannot be read.
    """
    limit = csv.field_size_limit(_MAX_FIELD)
    try:
        separator = options.separator or _find_separator(file, options, default_separator, notes)
        quotes = options.quotes if options.quotes is not None else separator != "\t"
        plain = _Dialect(separator, csv.QUOTE_NONE)
        if not quotes:
            yield from _Table(file, options, plain, notes).chunks()
            return
        quoted = _Dialect(separator)
        if (error := _first_quote_error(file, options, quoted)) is None:
            yield from _Table(file, options, quoted, notes).chunks()
            return
        escaped = _Dialect(separator, escape="\\")
        if _escapes_quotes(file, options) and not _first_quote_error(file, options, escaped):
            notes.append(
                f'{{file}}: quotes inside of quoted fields are written \\" (line {error.first}).'
            )
            yield from _Table(file, options, escaped, notes).chunks()
            return
        _check_plain(file, options, plain, error, notes)
        yield from _Table(file, options, plain, []).chunks()
    finally:
        csv.field_size_limit(limit)


def _first_quote_error(
    file: Path, options: ReadingOptions, dialect: _Dialect
) -> "_QuoteError | None":
    """Return the first quote that does not match; the whole file is gone through."""
    try:
        with open_text(file, options.encoding) as lines:
            deque(dialect.records(lines), maxlen=0)
    except _QuoteError as error:
        return error
    return None


def _escapes_quotes(file: Path, options: ReadingOptions) -> bool:
    """Return whether every backslash of a file stands before a quote or another backslash."""
    found = False
    with open_text(file, options.encoding) as lines:
        for line in lines:
            if "\\" in line:
                if "\\" in _ESCAPED.sub("", line):
                    return False
                found = True
    return found


def _check_plain(
    file: Path, options: ReadingOptions, dialect: _Dialect, error: _QuoteError, notes: Notes
) -> None:
    """Check that a table whose quotes do not match can be read without regard to them.

    Raises:
        UserError: if some lines then have another number of fields, or fields are in quotes.
    """
    where = f"line {error.first}"
    if error.last > error.first:
        where += f" (it reaches to line {error.last})"
    mistake = UserError(
        f"cannot read {file}: the quoted field that begins in {where} does not end before a "
        "separator: double the quotes inside of it, or read quotes as plain characters with "
        "data.quotes=false"
    )
    if options.quotes or options.bad_lines == "drop":
        raise mistake from error
    table = _Table(file, options, dialect, [])
    try:
        deque(table.chunks(), maxlen=0)
    except UserError:
        raise mistake from error
    if table.enclosed:
        raise mistake from error
    notes += table.notes
    notes.append(
        f"{{file}}: quotes are not closed (the first in line {error.first}); they are read as "
        f"plain characters, {table.opening} fields begin with one."
    )


class _Table:
    """One reading of a table with a given dialect.

    Attributes:
        enclosed: number of fields that begin and end with a quote.
        opening: number of fields that only begin with one.
    """

    def __init__(self, file: Path, options: ReadingOptions, dialect: _Dialect, notes: Notes):
        self.file, self.options, self.dialect, self.notes = file, options, dialect, notes
        self.enclosed = self.opening = self.dropped = 0
        self.first_dropped = 0
        self.multiline = _MultilineFields(dialect.separator)

    def chunks(self) -> Iterator[pa.Table]:
        """Yield the rows; notes are complete at the end."""
        with open_text(self.file, self.options.encoding) as lines:
            records = self.dialect.records(lines)
            first = list(islice(records, _SNIFFED))
            if not first:
                raise UserError(f"{self.file} is empty")
            names, required, body = self._header(first)
            shift = self._row_names(names, body)
            rows: list[list[str]] = []
            for number, record in _chain(body, records):
                row = self._fit(number, record[shift:], len(names), required)
                if row is None:
                    continue
                self._watch(number, row)
                rows.append(row)
                if len(rows) == CHUNK_ROWS:
                    yield _as_table(names, rows)
                    rows = []
            if rows:
                yield _as_table(names, rows)
        self._finish()

    def _header(
        self, records: list[tuple[int, list[str]]]
    ) -> tuple[list[str], int, list[tuple[int, list[str]]]]:
        """Return the names of the columns, the fewest fields of a row, and the records of rows."""
        number, first = records[0]
        given = self.options.columns
        has_header = self.options.header
        if has_header is None:
            has_header = given is None or _holds_name(records, given)
            if not has_header and _looks_like_header(records):
                raise UserError(
                    f"{self.file}: line {number} ({', '.join(map(repr, first))[:100]}) looks like "
                    "a header, and data.columns names the columns of tables without one: say "
                    "data.header=true to replace its names, or data.header=false"
                )
            names = list(first) if has_header else list(given or ())
            if has_header and given is not None and set(names) != set(given):
                self.notes.append(
                    f"{{file}}: its first line names its columns ({', '.join(names)[:100]}), "
                    "data.columns is for files without a header."
                )
        else:
            names = list(given or first) if has_header else list(given or [""] * len(first))
        width = max(len(names), len(first) if has_header else 0)
        names += [""] * (width - len(names))
        if not has_header and (len(names) > len(first) or not _only_empty(first[len(names) :])):
            raise UserError(
                f"cannot read {self.file}: data.columns names {len(names)} columns, and line "
                f"{number} has {len(first)} fields (separated by "
                f"{_separator_name(self.dialect.separator)})"
            )
        # Columns at the end without a name are trailing separators.
        named = [index for index, name in enumerate(names, 1) if name.strip()]
        required = named[-1] if named else len(names)
        names = [name if name.strip() else str(index) for index, name in enumerate(names, 1)]
        doubled = [name for name, count in Counter(names).items() if count > 1]
        if doubled:
            raise UserError(
                f"cannot read {self.file}: its header has '{doubled[0]}' twice; name all its "
                "columns with data.columns=[...] data.header=true"
            )
        return names, required, records[1:] if has_header else records

    def _row_names(self, names: Sequence[str], body: Sequence[tuple[int, list[str]]]) -> int:
        """Return 1 if every row begins with a field more, numbers of rows without a name."""
        width = len(names)
        if not body or any(len(record) != width + 1 or not record[-1] for _, record in body):
            return 0
        indices = [record[0] for _, record in body]
        if not all(index.isdigit() for index in indices) or len(set(indices)) < len(indices):
            return 0
        if len(indices) > 1 and any(
            int(after) <= int(before) for before, after in pairwise(indices)
        ):
            return 0
        self.notes.append(
            "{file}: every line has a field more than the header, the first of them a number of "
            "the row; it is left out."
        )
        return 1

    def _fit(self, number: int, record: list[str], width: int, required: int) -> list[str] | None:
        """Return a record with as many fields as there are columns; ``None``: left out."""
        count = len(record)
        if count == width:
            return record
        if count > width and _only_empty(record[width:]):
            return record[:width]  # trailing separators
        if required <= count < width:
            return record + [""] * (width - count)
        if self.options.bad_lines == "drop":
            self.dropped += 1
            self.first_dropped = self.first_dropped or number
            return None
        separator = _separator_name(self.dialect.separator)
        hint = "the line is cut short or lacks a separator"
        if count > width:
            hint = "quote fields that hold a separator"
            if self.dialect.quoting == csv.QUOTE_NONE:
                hint = "a field holds a separator (data.quotes=true if fields are quoted)"
        raise UserError(
            f"cannot read {self.file}: line {number} has {count} field{'s' * (count != 1)} and "
            f"there are {width} columns (separated by {separator}): {hint}, or leave such lines "
            "out with data.bad_lines=drop"
        )

    def _watch(self, number: int, row: Sequence[str]) -> None:
        if self.dialect.quoting == csv.QUOTE_NONE:
            for value in row:
                if value[:1] == '"':
                    self.opening += 1
                    self.enclosed += len(value) > 1 and value[-1] == '"'
        else:
            self.multiline.watch(number, row)
        if any("\0" in value for value in row):
            raise UserError(
                f"cannot read {self.file}: line {number} holds a NUL byte: the file is damaged or "
                "no text"
            )

    def _finish(self) -> None:
        if self.dropped:
            self.notes.append(
                f"{{file}}: {self.dropped} lines with another number of fields than the header "
                f"were left out (the first is line {self.first_dropped})."
            )
        self.notes += self.multiline.notes()


@dataclass
class _MultilineFields:
    """Watches quoted fields of several lines for rows that an open quote has swallowed."""

    separator: str
    longest: tuple[int, int] = (0, 0)
    long: int = 0
    first_values: Counter[str] = field(default_factory=Counter)
    last_values: Counter[str] = field(default_factory=Counter)
    candidates: list[tuple[int, str, str]] = field(default_factory=list)

    def watch(self, number: int, row: Sequence[str]) -> None:
        """Look at a row that begins in a line."""
        for values, value in ((self.first_values, row[0]), (self.last_values, row[-1])):
            if len(values) <= _MOST_LABELS and "\n" not in value:
                values[value] += 1
        for value in row:
            if "\n" not in value:
                continue
            lines = value.splitlines()
            if len(lines) >= MANY_LINES:
                self.long += 1
                self.longest = max(self.longest, (len(lines), number))
            for offset, line in enumerate(lines):
                parts = line.split(self.separator)
                # The first line lacks the columns before the field, the last those after it.
                if 1 < len(parts) <= len(row) and len(self.candidates) < CHUNK_ROWS:
                    whole = len(parts) == len(row)
                    first = parts[0] if whole or offset == len(lines) - 1 else ""
                    last = parts[-1] if whole or offset == 0 else ""
                    self.candidates.append((number + offset, first.strip('"'), last.strip('"')))

    def notes(self) -> Notes:
        """Return what was noticed."""
        found = []
        known = [
            {value for value, count in values.items() if count > 1 and value.strip()}
            if len(values) <= _MOST_LABELS
            else set()
            for values in (self.first_values, self.last_values)
        ]
        swallowed = [
            number
            for number, first, last in self.candidates
            if first in known[0] or last in known[1]
        ]
        if swallowed:
            found.append(
                f"{{file}}: {len(swallowed)} lines inside quoted fields look like rows of their "
                f"own (the first is line {swallowed[0]}): is a quote left open? data.quotes=false "
                "reads quotes as plain characters."
            )
        if self.long:
            found.append(
                f"{{file}}: {self.long} quoted texts have {MANY_LINES} lines or more (the longest "
                f"{self.longest[0]}, from line {self.longest[1]}): is a quote left open?"
            )
        return found


def looks_like_table(file: Path, options: ReadingOptions) -> bool:
    """Return whether the first lines of a text file all have the same number of tabs, not 0."""
    with open_text(file, options.encoding) as lines:
        counts = {line.count("\t") for line in islice(lines, _SNIFFED) if line.strip()}
    return len(counts) == 1 and counts != {0}


def _find_separator(file: Path, options: ReadingOptions, default: str, notes: Notes) -> str:
    """Return the usual separator, or the one that the first lines have if that gives one column."""
    with open_text(file, options.encoding) as lines:
        sample = list(islice(lines, _SNIFFED))
    widths = {}
    for separator in _SEPARATORS:
        quoting: Literal[0, 3] = csv.QUOTE_NONE if options.quotes is False else csv.QUOTE_MINIMAL
        try:
            records = [
                record
                for record in csv.reader(sample, delimiter=separator, quoting=quoting)
                if record
            ]
        except csv.Error:
            continue
        if records:
            widths[separator] = [len(record) for record in records]
    if widths.get(default, [1])[0] > 1:
        return default
    for separator, counts in widths.items():
        if counts[0] > 1 and sum(count == counts[0] for count in counts) >= 0.9 * len(counts):
            notes.append(
                f"{{file}}: its columns are separated by {_SEPARATORS[separator]} "
                f"(data.delimiter={'tab' if separator == chr(9) else separator})."
            )
            return separator
    return default


def _holds_name(records: Sequence[tuple[int, list[str]]], names: Sequence[str]) -> bool:
    """Return whether the first record holds one of some names, which no row repeats there."""
    first, rest = records[0][1], [record for _, record in records[1:]]
    return any(
        value.strip() in names
        and all(index >= len(record) or record[index] != value for record in rest)
        for index, value in enumerate(first)
    )


def _looks_like_header(records: Sequence[tuple[int, list[str]]]) -> bool:
    """Return whether the first record holds a value that no label column repeats.

    A column of few values, each of them frequent, is one of labels: a first value that never comes
    again is its name.
    """
    first, rest = records[0][1], [record for _, record in records[1:]]
    if len(rest) < 10:
        return False
    for index, value in enumerate(first):
        values = Counter(record[index] for record in rest if index < len(record))
        if value not in values and len(values) <= len(rest) / 5 and not _is_number(value):
            numbers = all(_is_number(other) for other in values)
            if numbers or min(values.values()) > 1:
                return True
    return False


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _only_empty(fields: Iterable[str]) -> bool:
    return not any(value.strip() for value in fields)


def _separator_name(separator: str) -> str:
    return _SEPARATORS.get(separator, repr(separator))


def _chain(
    first: Iterable[tuple[int, list[str]]], rest: Iterable[tuple[int, list[str]]]
) -> Iterator[tuple[int, list[str]]]:
    yield from first
    yield from rest


def _as_table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> pa.Table:
    columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
    return pa.Table.from_arrays(columns, names=list(names))
