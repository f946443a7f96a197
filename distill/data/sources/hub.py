"""Examples from the Hugging Face hub, by name."""

from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset

from distill.core import hub
from distill.core.errors import UserError
from distill.data.sources.base import SPLIT_NAMES, DataSource, read_with_datasets


@dataclass(kw_only=True)
class HubSource(DataSource):
    """A data set of the hub.

    Attributes:
        path: its id, such as ``stanfordnlp/imdb``.
        subset: its configuration, such as ``sst2`` of ``nyu-mll/glue``.
        splits: which of its splits serve as train, validation and test, where their names do not
            say it.
        revision: commit, tag or branch to take.
    """

    path: str
    subset: str | None = None
    splits: dict[str, str] | None = None
    revision: str | None = None

    def read(self, cache_dir: Path) -> dict[str, Dataset]:
        """Download (or take from the cache) and pick the splits."""
        loaded = self._load(cache_dir)
        if self.splits is None:
            named = {SPLIT_NAMES.get(split): data for split, data in loaded.items()}
            splits = {split: data for split, data in named.items() if split}
        else:
            absent = [split for split in self.splits.values() if split not in loaded]
            if absent:
                raise UserError(f"{self.path} has no split {absent[0]}: it has {', '.join(loaded)}")
            splits = {ours: loaded[theirs] for ours, theirs in self.splits.items()}
        if "train" not in splits:
            raise UserError(f"{self.path} has no train split: set data.splits={{train: NAME}}")
        return splits

    def unlabeled_split(self, name: str, cache_dir: Path) -> Dataset | None:
        """A split of the data set that serves as nothing else, such as imdb's ``unsupervised``."""
        return self._load(cache_dir).get(name)

    def _load(self, cache_dir: Path) -> dict[str, Dataset]:
        return read_hub(self.path, self.subset, cache_dir, self.revision)


def read_hub(
    path: str, subset: str | None, cache_dir: Path, revision: str | None = None
) -> dict[str, Dataset]:
    """All splits of a data set of the hub.

    Raises:
        UserError: if it cannot be had.
    """
    what = f"the data set {path} from the hub"
    if not hub.hub_reachable():
        what += ", which cannot be reached, nor from the cache"
    return read_with_datasets(path, subset, revision=revision, cache_dir=cache_dir, what=what)
