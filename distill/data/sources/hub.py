"""Data sets of the Hugging Face hub."""

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
        path: id of the data set, such as ``stanfordnlp/imdb``.
        subset: configuration of the data set, such as ``sst2`` of ``nyu-mll/glue``.
        splits: name of the split for each of ``train``, ``validation`` and ``test``, unless they
            have usual names.
        revision: commit, tag or branch.
    """

    path: str
    subset: str | None = None
    splits: dict[str, str] | None = None
    revision: str | None = None

    def read(self, cache_dir: Path) -> dict[str, Dataset]:
        """Download the data set, or load it from the cache, and select its splits."""
        loaded = self._load(cache_dir)
        if self.splits is None:
            named = {SPLIT_NAMES.get(split): data for split, data in loaded.items()}
            splits = {split: data for split, data in named.items() if split}
        else:
            missing = [name for name in self.splits.values() if name not in loaded]
            if missing:
                raise UserError(
                    f"{self.path} has no split {missing[0]}: it has {', '.join(loaded)}"
                )
            splits = {split: loaded[name] for split, name in self.splits.items()}
        if "train" not in splits:
            raise UserError(f"{self.path} has no train split: set data.splits={{train: NAME}}")
        return splits

    def unlabeled_split(self, name: str, cache_dir: Path) -> Dataset | None:
        """Return a split of the data set by its own name, such as imdb's ``unsupervised``."""
        return self._load(cache_dir).get(name)

    def _load(self, cache_dir: Path) -> dict[str, Dataset]:
        return read_hub(self.path, self.subset, cache_dir, self.revision)


def read_hub(
    path: str, subset: str | None, cache_dir: Path, revision: str | None = None
) -> dict[str, Dataset]:
    """Load all splits of a data set of the hub.

    Raises:
        UserError: if it is neither on the hub nor in the cache.
    """
    description = f"the data set {path} from the hub"
    if not hub.hub_reachable():
        description += ", which cannot be reached, nor from the cache"
    return read_with_datasets(
        path, subset, revision=revision, cache_dir=cache_dir, description=description
    )
