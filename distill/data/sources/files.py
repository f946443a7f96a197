"""Data in files: csv, tsv, jsonl, json, parquet, txt, conll, also compressed with gzip."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

import pyarrow as pa
from datasets import Dataset, concatenate_datasets

from distill.core.cache import cache_key, get_or_create
from distill.core.errors import UserError
from distill.data.readers.conll import begins_with_document, read_conll
from distill.data.readers.json_rows import read_json_rows
from distill.data.readers.options import BadLines, Layout, ReadingOptions
from distill.data.readers.squad import read_squad
from distill.data.readers.stored import Notes, file_hash, read_once, write_rows
from distill.data.readers.table import looks_like_table, read_table
from distill.data.readers.text_file import open_bytes
from distill.data.readers.text_lines import read_text_lines
from distill.data.sources.base import SPLIT_NAMES, DataSource, read_with_datasets
from distill.data.sources.discovery import describe_content, find_split_files, split_of

FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "json",
    ".json": "json",
    ".parquet": "parquet",
    ".txt": "text",
    ".conll": "conll",
    ".conllu": "conll",
    ".iob": "conll",
    ".bio": "conll",
}
# What a file is whose first bytes are these, for messages.
_OTHER_KINDS = {
    b"\x1f\x8b": "compressed with gzip, call it .gz",
    b"PK\x03\x04": "a zip file or a spreadsheet, unpack or export it as csv",
    b"PAR1": "a parquet file, call it .parquet",
    b"version https://git-lfs": "a pointer of Git LFS and not the file itself, run git lfs pull",
    b"<!DOCTYPE": "a page of HTML, perhaps of a download that failed",
    b"<html": "a page of HTML, perhaps of a download that failed",
}


@dataclass(kw_only=True)
class FileSource(DataSource):
    """A folder with train, validation and test files, or single files.

    Attributes:
        path: a folder, one file (all splits are then cut from it), or a mapping of split to file.
            Folders may also be snapshots of the hub, or what ``datasets`` saved to disk.
        quotes: whether fields may be enclosed in double quotes; by default in csv, but not in tsv,
            as in GLUE's files and in the definition of the media type.
        layout: ``conll`` for files with a word per line that have another suffix, see
            :func:`~distill.data.readers.conll.read_conll`; ``table`` for csv and tsv, and ``text``
            for an example per line, whatever the suffix; ``auto`` decides by suffix and content.
        encoding: encoding of text files, such as ``cp949``; ``None``: UTF-8, unless a byte order
            mark says otherwise.
        delimiter: separator of the fields of tables; ``None``: comma or tab by the suffix, or the
            one that the first lines have.
        columns: names of the columns of tables without a header.
        header: whether the first line of a table names its columns; ``None``: unless ``columns``
            are given and the line holds none of them.
        bad_lines: handling of lines of tables with too many or too few fields: ``error`` or
            ``drop``.
    """

    path: str | dict[str, str]
    quotes: bool | None = None
    layout: Layout = "auto"
    encoding: str | None = None
    delimiter: str | None = None
    columns: list[str | int] | None = None
    header: bool | None = None
    bad_lines: BadLines = "error"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._has_tables = False
        self.reading = ReadingOptions(
            quotes=self.quotes, layout=self.layout, encoding=self.encoding,
            delimiter=self.delimiter, header=self.header, bad_lines=self.bad_lines,
            columns=None if self.columns is None else tuple(map(str, self.columns)),
        )  # fmt: skip

    def read(self, cache_dir: Path) -> dict[str, Dataset]:
        """Read the file of each split; all columns of csv and tsv are strings."""
        self.read_notes = []
        saved = self._saved_dataset()
        if saved is not None:
            self._check_options(["saved"])
            return _load_saved(saved, self.read_notes)
        found = self._find_files(self.read_notes)
        kinds = [_format_of(file, self.reading) for files in found.values() for file in files]
        self._check_options(kinds)
        self._has_tables = "csv" in kinds
        return {
            split: self._read_all(files, cache_dir, self.read_notes)
            for split, files in found.items()
        }

    def _check_options(self, kinds: Sequence[str]) -> None:
        """Raise a ``UserError`` for a reading option that no file would heed."""
        options = {
            name: getattr(self, name)
            for name in ("quotes", "delimiter", "columns", "header", "encoding")
        } | {"bad_lines": None if self.bad_lines == "error" else self.bad_lines}
        for name, value in options.items():
            heeding = {"csv"} if name != "encoding" else {"csv", "json", "text", "conll"}
            if value is not None and not heeding & set(kinds):
                what = "tables (csv, tsv)" if name != "encoding" else "text files"
                raise UserError(
                    f"data.{name}={value} says how {what} are read, and there are none in "
                    f"data.path={self.path}"
                    + (" (data.layout=table reads any file as one)" if name != "encoding" else "")
                )

    def column_hint(self) -> str:
        """Name the option for tables without a header."""
        if self.columns is not None or not self._has_tables:
            return ""
        return "; data.columns=[...] names the columns of a table without a header"

    def _read_all(self, files: Sequence[Path], cache_dir: Path, notes: Notes) -> Dataset:
        parts = [read_file(file, cache_dir, self.reading, notes) for file in files]
        if len(parts) == 1:
            return parts[0]
        for file, part in zip(files, parts, strict=True):
            if part.features != parts[0].features:
                raise UserError(f"{file} has other columns than {files[0].name}")
        return concatenate_datasets(parts)

    def _find_files(self, notes: Notes) -> dict[str, list[Path]]:
        if isinstance(self.path, Mapping):
            files = {split: [existing_path(file)] for split, file in self.path.items()}
            for split, (file,) in files.items():
                if split not in ("train", "validation", "test"):
                    raise UserError(f"data.path has the split {split}: use train, validation, test")
                if not file.is_file():
                    raise UserError(f"data.path: there is no file {file}")
        else:
            path = existing_path(self.path)
            if path.is_file():
                files = {"train": [path]}
            elif path.is_dir():
                files = find_split_files(path, self._is_data, notes)
                if "train" not in files:
                    raise UserError(
                        f"data.path={self.path}: no training file (train.csv, train.jsonl, ...): "
                        f"{describe_content(path)}; data.path={{train: ..., test: ...}} names them"
                    )
            else:
                raise UserError(f"data.path={path}: there is no such file or folder")
        if "train" not in files:
            raise UserError(
                f"data.path={self.path}: no training file (train.csv, train.jsonl, ...)"
            )
        return files

    def _is_data(self, file: Path) -> bool:
        suffix = data_suffix(file)
        if suffix in FORMATS:
            return True
        # CoNLL-2003's own names: eng.train, eng.testa.
        is_named = split_of(file.name, exact=False) is not None and split_of(suffix, False)
        return bool(is_named) and (self.layout != "auto" or begins_with_document(file))

    def _saved_dataset(self) -> Path | None:
        """Return the folder if ``datasets`` saved it with ``save_to_disk``."""
        if isinstance(self.path, Mapping):
            return None
        path = existing_path(self.path)
        names = ("dataset_dict.json", "state.json")
        return path if path.is_dir() and any((path / name).is_file() for name in names) else None


def existing_path(path: str) -> Path:
    """Return a path that exists in one of the forms that accents and syllables are written in.

    Names that come from a Mac are in Unicode's decomposed form (NFD), typed ones are composed.
    """
    given = Path(path).expanduser()
    for form in ("NFC", "NFD"):
        other = Path(normalize(form, str(given)))
        if not given.exists() and other.exists():
            return other
    return given


def read_file(
    file: Path,
    cache_dir: Path,
    options: ReadingOptions | None = None,
    notes: Notes | None = None,
) -> Dataset:
    """Read the rows of a file unchanged; SQuAD's nested layout is flattened.

    Args:
        file: the file.
        cache_dir: where the rows are kept.
        options: see :class:`~distill.data.readers.options.ReadingOptions`.
        notes: what was noticed is appended.

    Raises:
        UserError: if the file cannot be read or has no rows.
    """
    options = options or ReadingOptions()
    notes = notes if notes is not None else []
    suffix = data_suffix(file)
    kind = _format_of(file, options)
    _check_kind(file, kind)
    if kind == "conll":
        return read_conll(file, options.encoding, notes)
    if suffix == ".json" and (nested := read_squad(file, cache_dir, options.encoding)) is not None:
        return nested
    if kind == "parquet":
        return _read_parquet(file, cache_dir)

    def read(own: Notes) -> Iterable[pa.Table]:
        if kind == "json":
            return read_json_rows(file, options.encoding, own)
        if kind == "text":
            return read_text_lines(file, options.encoding)
        return read_table(file, options, "," if suffix == ".csv" else "\t", own)

    settings = {"kind": kind, "suffix": suffix} | options.settings()
    return read_once(file, cache_dir, settings, read, notes)


def _read_parquet(file: Path, cache_dir: Path) -> Dataset:
    """Return the rows of a parquet file as ``datasets`` reads them, from the cache if it has them.

    Its own cache would compare path and modification time, and would neither notice a file that was
    replaced by one with the same time nor that what it keeps is damaged.
    """
    folder = cache_dir / "files" / f"parquet-{cache_key(kind='parquet', content=file_hash(file))}"

    def create(partial: Path) -> None:
        rows = read_with_datasets(
            "parquet",
            data_files={"train": str(file)},
            cache_dir=partial / "read",
            description=str(file),
        )["train"]
        write_rows(partial / "rows.arrow", rows)
        shutil.rmtree(partial / "read")

    get_or_create(folder, create)
    return Dataset.from_file(str(folder / "rows.arrow"))


def data_suffix(file: Path) -> str:
    """Return the suffix of a file's format: ``.csv`` for ``reviews.csv.gz``."""
    suffixes = [suffix.lower() for suffix in file.suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _format_of(file: Path, options: ReadingOptions) -> str:
    """Return how a file is read: csv, json, parquet, text or conll."""
    kind = FORMATS.get(data_suffix(file))
    if options.layout != "auto":
        if kind in ("json", "parquet"):
            holds = {"conll": "words", "table": "fields", "text": "texts"}[options.layout]
            raise UserError(
                f"data.layout={options.layout}: {file} has no {holds} in lines, "
                "set data.layout=auto"
            )
        return {"conll": "conll", "table": "csv", "text": "text"}[options.layout]
    if kind == "text":
        if options.delimiter is not None or options.header is not None:
            return "csv"
        if begins_with_document(file, options.encoding):
            return "conll"
        return "csv" if looks_like_table(file, options) else "text"
    if kind is None:
        if begins_with_document(file, options.encoding):
            return "conll"
        raise UserError(
            f"{file}: its format is none of {', '.join(FORMATS)} (or those .gz); "
            "data.layout=conll reads any file with a word per line, data.layout=table any csv or "
            "tsv"
        )
    return kind


def _check_kind(file: Path, kind: str) -> None:
    """Raise a ``UserError`` for a file that is something else than its name says."""
    try:
        with open_bytes(file) as content:
            start = content.read(32)
    except OSError as error:
        raise UserError(f"cannot read {file}: {error}") from error
    except EOFError as error:
        raise UserError(f"cannot read {file}: it is cut short") from error
    for magic, what in _OTHER_KINDS.items():
        if start.startswith(magic) and not (kind == "parquet" and magic == b"PAR1"):
            raise UserError(f"cannot read {file}: it is {what}")


def _load_saved(folder: Path, notes: Notes) -> dict[str, Dataset]:
    """Load what ``datasets`` saved with ``save_to_disk``; a single split is train."""
    from datasets import load_from_disk

    try:
        loaded = load_from_disk(str(folder))
    except Exception as error:  # those of datasets and pyarrow have no common base
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"cannot read {folder}: {type(error).__name__}: {reason}") from error
    if isinstance(loaded, Dataset):
        return {"train": loaded}
    splits = {SPLIT_NAMES[name]: rows for name, rows in loaded.items() if name in SPLIT_NAMES}
    others = [name for name in loaded if name not in SPLIT_NAMES]
    if others:
        notes.append(f"The splits {', '.join(others)} of {folder.name} are not used.")
    if "train" not in splits:
        raise UserError(f"{folder} has no split train: it has {', '.join(loaded)}")
    return splits
