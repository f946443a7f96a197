"""Reader of json: one object per line, a list of objects, or an object that holds such a list.

Values keep their types: texts that look like dates stay texts, which the readers of pyarrow and
pandas turn into times.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa

from distill.core.errors import UserError
from distill.data.readers.stored import CHUNK_ROWS, Notes
from distill.data.readers.text_file import open_text

# Key of the rows in an object around them: {"version": ..., "data": [...]}.
_ROWS = "data"
Row = Mapping[str, Any]


def read_json_rows(file: Path, encoding: str | None, notes: Notes) -> Iterator[pa.Table]:
    """Yield the rows of a file in chunks of one type.

    A column that holds numbers in some rows and texts in others is read as text.

    Args:
        file: the file, which may be compressed (.gz).
        encoding: name of a codec; ``None``: what its byte order mark says, else UTF-8.
        notes: what was noticed is appended.

    Raises:
        UserError: for what is not JSON, naming the line, or holds no rows.
    """
    schema, texts = _common_schema(file, encoding)
    if texts:
        notes.append(
            f"{{file}}: the column{'s' * (len(texts) > 1)} {', '.join(map(repr, sorted(texts)))} "
            "hold both numbers and texts, and are read as text."
        )
    for chunk in _chunks(file, encoding):
        yield _as_table(chunk, schema, texts)


def _common_schema(file: Path, encoding: str | None) -> tuple[pa.Schema, set[str]]:
    """Return the type of every column, and the columns that are read as text."""
    found: dict[str, pa.DataType] = {}
    texts: set[str] = set()
    for chunk in _chunks(file, encoding):
        for name in dict.fromkeys(key for row in chunk for key in row):
            if name in texts:
                continue
            values = [row.get(name) for row in chunk]
            try:
                kind = pa.array(values, from_pandas=False).type
                if name in found:
                    kind = _wider(found[name], kind)
            except (pa.ArrowException, OverflowError, ValueError, TypeError):
                if any(isinstance(value, list | dict) for value in values):
                    _refuse_mixture(file, name, values)
                texts.add(name)
                kind = pa.string()
            found[name] = kind
    for name, kind in found.items():
        if pa.types.is_null(kind):
            found[name] = pa.string()
    return pa.schema(list(found.items())), texts


def _wider(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    """Return a type that holds the values of both."""
    schemas = [pa.schema([("value", kind)]) for kind in (first, second)]
    wider = pa.unify_schemas(schemas, promote_options="permissive").field("value").type
    if (pa.types.is_string(wider) or pa.types.is_temporal(wider)) and first != second:
        nulls = [kind for kind in (first, second) if pa.types.is_null(kind)]
        if not nulls:
            raise pa.ArrowTypeError("numbers and texts")
    return wider


def _refuse_mixture(file: Path, name: str, values: Sequence[Any]) -> NoReturn:
    kinds = sorted({_kind(value) for value in values if value is not None})
    raise UserError(
        f"cannot read {file}: the column '{name}' holds {' and '.join(kinds)}, "
        "and must hold values of one kind"
    )


def _kind(value: Any) -> str:
    if isinstance(value, list):
        kinds = sorted({_kind(item) for item in value if item is not None})
        return f"lists of {' and '.join(kinds)}" if kinds else "lists"
    if isinstance(value, dict):
        return "records"
    return "texts" if isinstance(value, str) else "numbers"


def _as_table(rows: Sequence[Row], schema: pa.Schema, texts: set[str]) -> pa.Table:
    columns = []
    for column in schema:
        values = [row.get(column.name) for row in rows]
        if column.name in texts:
            values = [value if value is None or isinstance(value, str) else json.dumps(value)
                      for value in values]  # fmt: skip
        columns.append(pa.array(values, column.type, from_pandas=False))
    return pa.Table.from_arrays(columns, schema=schema)


def _chunks(file: Path, encoding: str | None) -> Iterator[list[Row]]:
    rows = iter(_rows(file, encoding))
    while chunk := list(islice(rows, CHUNK_ROWS)):
        yield chunk


def _rows(file: Path, encoding: str | None) -> Iterable[Row]:
    """Return the rows, one after another for a file with an object per line."""
    with open_text(file, encoding) as lines:
        first = next((line for line in lines if line.strip()), "").strip()
    if not first:
        raise UserError(f"{file} has no examples")
    try:
        is_object = isinstance(json.loads(first), dict)
    except (json.JSONDecodeError, RecursionError):
        is_object = False
    if is_object and ".json" in file.suffixes[-2:]:
        # One line may be all there is: {"version": "1", "data": [...]}.
        with open_text(file, encoding) as lines:
            count = sum(bool(line.strip()) for line in islice(lines, 1000))
        is_object = count > 1
    if is_object or ".jsonl" in file.suffixes[-2:]:
        return _objects_in_lines(file, encoding)
    return _objects_in_whole(file, encoding)


def _objects_in_lines(file: Path, encoding: str | None) -> Iterator[Row]:
    with open_text(file, encoding) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (json.JSONDecodeError, RecursionError) as error:
                raise UserError(
                    f"cannot read {file}: line {number} is no JSON object ({_short(error)})"
                ) from error
            if not isinstance(row, dict):
                raise UserError(
                    f"cannot read {file}: line {number} is no JSON object but {_excerpt(line)}"
                )
            _check_text(file, f"line {number}", row)
            yield row


def _objects_in_whole(file: Path, encoding: str | None) -> Iterator[Row]:
    with open_text(file, encoding) as lines:
        content = lines.read()
    try:
        whole = json.loads(content)
    except (json.JSONDecodeError, RecursionError) as error:
        line = f"line {error.lineno}: " if isinstance(error, json.JSONDecodeError) else ""
        raise UserError(f"cannot read {file}: {line}it is no JSON ({_short(error)})") from error
    if isinstance(whole, dict):
        whole = _rows_of_object(file, whole)
    if not isinstance(whole, list):
        raise UserError(f"cannot read {file}: it holds {_excerpt(content)}, no list of objects")
    for number, row in enumerate(whole, 1):
        if not isinstance(row, dict):
            raise UserError(
                f"cannot read {file}: entry {number} is no object but {_excerpt(json.dumps(row))}"
            )
        _check_text(file, f"entry {number}", row)
        yield row


def _rows_of_object(file: Path, whole: dict[str, Any]) -> list[Any]:
    """Return the rows of an object: a list of objects in it, columns by row, or itself."""
    if isinstance(whole.get(_ROWS), list):
        return whole[_ROWS]
    values = list(whole.values())
    if values and all(isinstance(value, dict) for value in values):
        # pandas' to_json(): a column each, with the values by row.
        keys = list(values[0])
        if all(list(value) == keys for value in values) and all(key.isdigit() for key in keys):
            return [{name: column[key] for name, column in whole.items()} for key in keys]
    if values and all(
        isinstance(value, list) and value and isinstance(value[0], dict) for value in values
    ):
        raise UserError(
            f"cannot read {file}: it is an object with {', '.join(map(repr, whole))[:100]}, and "
            "rows are a list of objects or an object per line"
        )
    return [whole]


def _check_text(file: Path, where: str, row: Row) -> None:
    for name, value in row.items():
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise UserError(
                    f"cannot read {file}: {where}: '{name}' holds half a character (a lone "
                    "surrogate)"
                ) from None


def _short(error: Exception) -> str:
    return error.msg if isinstance(error, json.JSONDecodeError) else "it is nested too deeply"


def _excerpt(text: str) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= 40 else text[:40] + "...")
