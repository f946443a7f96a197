"""The embedded default data set: the docstrings of installed libraries, prepared once."""

import logging
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from datasets import Dataset

from distill.core.cache import cache_key, get_or_create
from distill.data.readers.docstrings import LIBRARIES, Paragraphs, load, load_rest
from distill.data.readers.stored import write_rows
from distill.data.sources.base import DataSource

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class DocstringSource(DataSource):
    """Paragraphs of documentation, labeled with the library that they come from.

    Attributes:
        per_library: maximum number of examples of a library in all splits together. The smallest
            library has fewer than 900, and the others are reduced to its number.
    """

    per_library: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        self._paragraphs = Paragraphs()

    def read(self, cache_dir: Path) -> dict[str, Dataset]:
        """Read the docstrings once for each set of installed versions."""
        folder = self._folder("docstrings", cache_dir)

        def prepare(partial: Path) -> None:
            for split, rows in load(self.per_library, self._paragraphs).items():
                write_rows(partial / f"{split}.arrow", Dataset.from_list(rows))

        get_or_create(folder, prepare)
        return {
            split: Dataset.from_file(str(folder / f"{split}.arrow"))
            for split in ("train", "validation", "test")
        }

    def unlabeled_split(self, name: str, cache_dir: Path) -> Dataset | None:
        """Return for ``docstrings`` the paragraphs that are not in the balanced set."""
        if name != "docstrings":
            return None
        folder = self._folder("docstrings-rest", cache_dir)

        def prepare(partial: Path) -> None:
            log.info("data: reading the remaining docstrings (less than two minutes)")
            labeled = [text for rows in self.read(cache_dir).values() for text in rows["text"]]
            texts = load_rest(labeled, self._paragraphs)
            self._paragraphs = Paragraphs()  # what was parsed is not needed any more
            write_rows(partial / "rest.arrow", Dataset.from_dict({"text": texts}))

        get_or_create(folder, prepare)
        return Dataset.from_file(str(folder / "rest.arrow"))

    def _folder(self, kind: str, cache_dir: Path) -> Path:
        key = cache_key(
            kind=kind.replace("-", "_"), format=2, per_library=self.per_library,
            versions={name: _version(name) for name in LIBRARIES},
        )  # fmt: skip
        return cache_dir / "data" / f"{kind}-{key}"


def _version(library: str) -> str | None:
    if library == "stdlib":
        return platform.python_version()
    try:
        return version(library)
    except PackageNotFoundError:  # reported when its sources are read
        return None
