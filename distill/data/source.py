"""What every data source has in common: which columns, how many examples, how they are batched."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from datasets import Dataset

from distill.errors import UserError

# How splits are commonly called.
SPLIT_NAMES = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "eval": "test",
}  # fmt: skip


@dataclass(kw_only=True)
class Source(ABC):
    """Where labelled examples come from. A new source is a subclass with a ``read``.

    Attributes:
        name: what reports call the data.
        text: column of the text.
        text_pair: column of the second text; ``auto`` takes a column ``text_pair`` if there is
            one, ``None`` ignores it.
        label: column of the label.
        labels: names of the integer labels 0, 1, ..., or the order of labels that are strings.
        limit: at most so many training examples; validation and test stay whole.
        empty: what to do with empty texts: ``error`` or ``drop``.
        max_length: tokens an example is cut to.
        batch_size: examples a training step.
    """

    name: str
    text: str = "text"
    text_pair: str | None = "auto"
    label: str = "label"
    labels: list[str] | None = None
    limit: int | None = None
    empty: Literal["error", "drop"] = "error"
    max_length: int = 128
    batch_size: int = 32

    def __post_init__(self):
        for key in ("limit", "max_length", "batch_size"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise UserError(f"data.{key}={value}: it must be 1 or more")
        if self.empty not in ("error", "drop"):
            raise UserError(f"data.empty={self.empty}: choose error or drop")

    @abstractmethod
    def read(self, cache_dir: Path) -> dict[str, Dataset]:
        """The splits that exist, among ``train``, ``validation`` and ``test``, as they come.

        Raises:
            UserError: if there is nothing to read.
        """


def read_with_datasets(*arguments, cache_dir: Path, what: str, **options) -> dict[str, Dataset]:
    """``datasets.load_dataset`` without its progress bars, its failures told in one line."""
    import datasets

    datasets.disable_progress_bars()
    try:
        loaded = datasets.load_dataset(*arguments, cache_dir=str(cache_dir / "datasets"), **options)
    except Exception as error:  # its own errors, pandas', pyarrow's and the hub's are all unrelated
        if "corresponds to no data" in str(error):
            raise UserError(f"{what} has no examples") from error
        cause = error.__cause__ or error
        reason = " ".join(str(cause).split())[:300]
        raise UserError(f"cannot read {what}: {type(cause).__name__}: {reason}") from error
    return dict(loaded)
