"""Rows of a file, read once and memory-mapped afterwards."""

import hashlib
import json
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import pyarrow as pa
from datasets import Dataset

from distill.core.cache import cache_key, get_or_create
from distill.core.errors import UserError

CHUNK_ROWS = 10_000
"""Number of rows in memory at a time."""

Notes = list[str]
"""Remarks on how a file was read, for the report; each names the file as ``{file}``."""


def read_once(
    file: Path,
    cache_dir: Path,
    settings: dict[str, object],
    read: Callable[[Notes], Iterable[pa.Table]],
    notes: Notes,
) -> Dataset:
    """Return the rows of a file, which is read if its content was not read before.

    Args:
        file: the file.
        cache_dir: where rows and notes are kept, under a hash of the content and the settings.
        settings: everything else that determines the rows.
        read: yields the rows in chunks and appends its notes.
        notes: the notes, also those of an earlier reading, are appended.

    Raises:
        UserError: if the file cannot be read or has no rows.
    """
    key = cache_key(kind="rows", content=file_hash(file), settings=settings, code=_code_hash())
    folder = cache_dir / "files" / f"rows-{key}"

    def write(partial: Path) -> None:
        own: Notes = []
        stream, count = None, 0
        for table in read(own):
            count += len(table)
            stream = stream or pa.ipc.new_stream(str(partial / "rows.arrow"), table.schema)
            stream.write_table(table.combine_chunks())
        if stream is not None:
            stream.close()
        if not count:
            raise UserError(f"{file} has no examples")
        (partial / "notes.json").write_text(json.dumps(own), encoding="utf-8")

    get_or_create(folder, write)
    kept = json.loads((folder / "notes.json").read_text(encoding="utf-8"))
    notes += [note.replace("{file}", file.name) for note in kept]
    return Dataset.from_file(str(folder / "rows.arrow"))


@cache
def _code_hash() -> str:
    """Return a hash of the readers: what an earlier version has read is read anew."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def write_rows(file: Path, rows: Dataset) -> None:
    """Write rows into an Arrow file, a chunk in memory at a time, to be mapped by ``from_file``."""
    schema = rows.features.arrow_schema
    table = rows.with_format("arrow")
    with pa.ipc.new_stream(str(file), schema) as stream:
        for start in range(0, len(rows), CHUNK_ROWS):
            chunk = table[start : start + CHUNK_ROWS].replace_schema_metadata(schema.metadata)
            stream.write_table(chunk.combine_chunks())


def file_hash(file: Path) -> str:
    """Return a hash of the bytes of a file."""
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()[:20]
    except OSError as error:
        raise UserError(f"cannot read {file}: {error}") from error
