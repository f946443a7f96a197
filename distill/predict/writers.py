"""Answers written as jsonl, csv or parquet, as they come."""

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, ClassVar

LINE, ERROR = "line", "error"
Row = Mapping[str, Any]


class AnswerWriter(ABC):
    """Writes rows that have ``line`` and either the fields of an answer or ``error``.

    Attributes:
        resumes: whether what an interrupted job has written can be continued.
    """

    resumes: ClassVar[bool] = True

    @abstractmethod
    def write(self, rows: Sequence[Row]) -> None:
        """Write rows so that a reader sees them."""

    @abstractmethod
    def close(self) -> None:
        """Finish the file."""


class JsonLinesWriter(AnswerWriter):
    """One JSON object a line.

    Args:
        stream: opened for bytes.
    """

    def __init__(self, stream: IO[bytes]):
        self.stream = stream

    def write(self, rows: Sequence[Row]) -> None:
        """Write a line for each row."""
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        self.stream.write("".join(lines).encode("utf-8", "surrogatepass"))
        self.stream.flush()

    def close(self) -> None:
        """Flush."""
        self.stream.flush()


class CsvWriter(AnswerWriter):
    """A header and a line for each row; lists and objects are JSON.

    Args:
        stream: opened for bytes.
        columns: names in order.
        header: whether to write them first.
    """

    def __init__(self, stream: IO[bytes], columns: Sequence[str], header: bool = True):
        self.stream, self.columns = stream, columns
        if header:
            self._write([dict(zip(columns, columns, strict=True))])

    def write(self, rows: Sequence[Row]) -> None:
        """Write a line for each row."""
        self._write([{name: _cell(row.get(name)) for name in self.columns} for row in rows])

    def _write(self, rows: Sequence[Row]) -> None:
        buffer = io.StringIO()
        csv.DictWriter(buffer, self.columns, lineterminator="\n").writerows(rows)
        self.stream.write(buffer.getvalue().encode("utf-8", "surrogatepass"))
        self.stream.flush()

    def close(self) -> None:
        """Flush."""
        self.stream.flush()


class ParquetWriter(AnswerWriter):
    """A parquet file, which is there when it is whole; lists and objects are JSON.

    Args:
        path: the file.
        columns: names in order.
    """

    resumes = False

    def __init__(self, path: Path, columns: Sequence[str]):
        import pyarrow
        from pyarrow import parquet

        kinds = {"line": pyarrow.int64(), "start": pyarrow.int64(), "end": pyarrow.int64()}
        kinds |= {"score": pyarrow.float64(), "value": pyarrow.float64()}
        self._arrow, self.columns, self.path = pyarrow, columns, path
        self.schema = pyarrow.schema(
            [(name, kinds.get(name, pyarrow.string())) for name in columns]
        )
        self.partial = path.with_name(path.name + ".partial")
        self._writer: Any = parquet.ParquetWriter(self.partial, self.schema)

    def write(self, rows: Sequence[Row]) -> None:
        """Write a group of rows."""
        plain = [
            {
                name: value
                if not self._arrow.types.is_string(self.schema.field(name).type)
                else _cell(value)
                for name in self.columns
                for value in [row.get(name)]
            }
            for row in rows
        ]
        self._writer.write_table(self._arrow.Table.from_pylist(plain, self.schema))

    def close(self) -> None:
        """Write the end, and give the file its name."""
        self._writer.close()
        self.partial.replace(self.path)


def _cell(value: Any) -> str | None:
    """Return a value as the text of a cell; texts as they are, on one line."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    # A line of the file is a row, so that an interrupted job can be continued.
    return text.replace("\r", "\\r").replace("\n", "\\n")
