"""Data in files: csv, tsv, jsonl, json, parquet, txt, conll, also compressed with gzip."""

import csv
import gzip
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from datasets import Dataset, Features, Value

from distill.core.errors import UserError
from distill.data.readers.conll import read_conll
from distill.data.readers.squad import read_squad
from distill.data.sources.base import SPLIT_NAMES, DataSource, read_with_datasets

FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "json",
    ".json": "json",
    ".parquet": "parquet",
    ".txt": "text",
    ".conll": "conll",
    ".iob": "conll",
    ".bio": "conll",
}
Layout = Literal["auto", "conll"]


@dataclass(kw_only=True)
class FileSource(DataSource):
    """A folder with train, validation and test files, or single files.

    Attributes:
        path: a folder, one file (all splits are then cut from it), or a mapping of split to file.
        quotes: whether fields may be enclosed in double quotes; by default in csv, but not in tsv,
            as in GLUE's files and in the definition of the media type.
        layout: ``conll`` for files with a word per line that have another suffix, see
            :func:`~distill.data.readers.conll.read_conll`; ``auto`` decides by the suffix.
    """

    path: str | dict[str, str]
    quotes: bool | None = None
    layout: Layout = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layout not in ("auto", "conll"):
            raise UserError(f"data.layout={self.layout}: choose auto or conll")
        if self.layout == "conll" and self.quotes is not None:
            raise UserError("data.quotes says how csv and tsv are read, not data.layout=conll")

    def read(self, cache_dir: Path) -> dict[str, Dataset]:
        """Read the file of each split; all columns of csv and tsv are strings."""
        return {
            split: read_file(file, cache_dir, self.quotes, self.layout)
            for split, file in self._find_files().items()
        }

    def _find_files(self) -> dict[str, Path]:
        if isinstance(self.path, Mapping):
            files = {split: Path(file).expanduser() for split, file in self.path.items()}
            for split, file in files.items():
                if split not in ("train", "validation", "test"):
                    raise UserError(f"data.path has the split {split}: use train, validation, test")
                if not file.is_file():
                    raise UserError(f"data.path: there is no file {file}")
        else:
            path = Path(self.path).expanduser()
            if path.is_file():
                files = {"train": path}
            elif path.is_dir():
                files = self._files_in(path)
            else:
                raise UserError(f"data.path={path}: there is no such file or folder")
        if "train" not in files:
            raise UserError(
                f"data.path={self.path}: no training file (train.csv, train.jsonl, ...)"
            )
        for file in files.values():
            if data_suffix(file) not in FORMATS and self.layout == "auto":
                raise UserError(
                    f"{file}: its format is none of {', '.join(FORMATS)} (or those .gz); "
                    "data.layout=conll reads any file with a word per line"
                )
        return files

    @staticmethod
    def _files_in(folder: Path) -> dict[str, Path]:
        files: dict[str, Path] = {}
        for file in sorted(folder.iterdir()):
            # SQuAD's files have a version: train-v1.1.json, dev-v2.0.json.
            stem = re.sub(r"[-_]v\d+$", "", file.name.split(".")[0].lower())
            split = SPLIT_NAMES.get(stem)
            if split is None or data_suffix(file) not in FORMATS:
                continue
            if split in files:
                raise UserError(
                    f"{folder} has two files for {split} ({files[split].name}, {file.name}): "
                    "name one with data.path={train: ..., test: ...}"
                )
            files[split] = file
        return files


def read_file(
    file: Path, cache_dir: Path, quotes: bool | None = None, layout: Layout = "auto"
) -> Dataset:
    """Read the rows of a file unchanged; SQuAD's nested layout is flattened.

    Args:
        file: the file.
        cache_dir: where the rows are kept.
        quotes: see :class:`FileSource`.
        layout: see :class:`FileSource`.

    Raises:
        UserError: if the file cannot be read or has no rows.
    """
    suffix = data_suffix(file)
    if layout == "conll" and FORMATS.get(suffix) in ("json", "parquet"):
        raise UserError(f"data.layout=conll: {file} has no words in lines, set data.layout=auto")
    if layout == "conll" or FORMATS[suffix] == "conll":
        return read_conll(file)
    options: dict[str, Any] = {}
    if suffix == ".json" and (nested := read_squad(file, cache_dir)) is not None:
        return nested
    if FORMATS[suffix] == "csv":
        quotes = quotes if quotes is not None else suffix == ".csv"
        dialect: dict[str, Any] = {
            "sep": "," if suffix == ".csv" else "\t",
            "quoting": csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE,
        }
        # Declared as strings, or pandas would infer a type for each chunk; keep_default_na=False,
        # or the texts NA and null would become missing values.
        columns = {name: Value("string") for name in _header(file, dialect)}
        options = dialect | {"features": Features(columns), "keep_default_na": False}
    return read_with_datasets(
        FORMATS[suffix],
        data_files={"train": str(file)},
        cache_dir=cache_dir / "files" / _file_hash(file),
        description=str(file),
        **options,
    )["train"]


def _file_hash(file: Path) -> str:
    """Return a hash of the bytes of a file.

    datasets itself compares path and modification time (for decompressed files the path alone), and
    would not notice a file that was replaced by one with the same time.
    """
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()[:20]
    except OSError as error:
        raise UserError(f"cannot read {file}: {error}") from error


def data_suffix(file: Path) -> str:
    """Return the suffix of a file's format: ``.csv`` for ``reviews.csv.gz``."""
    suffixes = [suffix.lower() for suffix in file.suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _header(file: Path, dialect: dict[str, Any]) -> list[str]:
    """Return the column names of a csv or tsv file."""
    opener = gzip.open if file.suffix.lower() == ".gz" else open
    try:
        with opener(file, "rt", encoding="utf-8-sig", newline="") as lines:
            return next(csv.reader(lines, delimiter=dialect["sep"], quoting=dialect["quoting"]))
    except StopIteration:
        raise UserError(f"{file} is empty") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {file}: {error}") from error
