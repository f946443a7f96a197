"""A toy data source: sentences generated on the spot."""

from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset

from distill.data.sources.base import DataSource
from tests.factories import sentences


@dataclass(kw_only=True)
class GeneratedSource(DataSource):
    """Sentences with a sentiment.

    Attributes:
        count: number of training examples.
    """

    count: int = 100

    def read(self, cache_dir: Path) -> dict[str, Dataset]:
        """Generate all three splits."""
        sizes = {"train": self.count, "validation": 40, "test": 40}
        return {
            split: Dataset.from_list(sentences(size, seed))
            for seed, (split, size) in enumerate(sizes.items())
        }
