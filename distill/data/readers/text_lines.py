"""Reader of plain text: one example per line."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa

from distill.data.readers.stored import CHUNK_ROWS
from distill.data.readers.text_file import open_text


def read_text_lines(file: Path, encoding: str | None = None) -> Iterator[pa.Table]:
    """Yield the lines of a file, which may be compressed (.gz), as the column ``text``.

    Args:
        file: the file.
        encoding: name of a codec; ``None``: what its byte order mark says, else UTF-8.

    Raises:
        UserError: if the file cannot be read.
    """
    with open_text(file, encoding) as lines:
        while chunk := [line.rstrip("\r\n") for line in islice(lines, CHUNK_ROWS)]:
            yield pa.table({"text": pa.array(chunk, pa.string())})
