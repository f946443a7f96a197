"""The embedded default as a source: the docstrings of installed libraries, prepared once."""

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from datasets import Dataset

from distill.cache import key_of, made_once
from distill.data.docstrings import LIBRARIES, load
from distill.data.source import Source


@dataclass(kw_only=True)
class Docstrings(Source):
    """Which library does this paragraph of documentation come from?

    Attributes:
        per_library: at most so many examples of a library, in all splits together. The smallest
            library has fewer than 900, and all get as many as it has.
    """

    per_library: int = 1000

    def read(self, cache_dir: Path) -> dict[str, Dataset]:
        """Read the sources once for each set of installed versions."""
        key = key_of(
            kind="docstrings", format=1, per_library=self.per_library,
            versions={name: _version(name) for name in LIBRARIES},
        )  # fmt: skip
        folder = cache_dir / "data" / f"docstrings-{key}"

        def prepare(partial: Path) -> None:
            for split, rows in load(self.per_library).items():
                Dataset.from_list(rows).to_parquet(partial / f"{split}.parquet")

        made_once(folder, prepare)
        return {
            split: Dataset.from_parquet(
                str(folder / f"{split}.parquet"), cache_dir=str(cache_dir / "datasets")
            )
            for split in ("train", "validation", "test")
        }


def _version(library: str) -> str | None:
    if library == "stdlib":
        return platform.python_version()
    try:
        return version(library)
    except PackageNotFoundError:  # reading it says what is missing
        return None
