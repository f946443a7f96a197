"""Options that every data source has: columns, number of examples, length, batch size."""

import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from datasets import Dataset

from distill.core.cache import remove
from distill.core.checksums import CHECKSUMS, DamagedError, check_folder, write_checksums
from distill.core.errors import UserError

log = logging.getLogger(__name__)

# Common names of splits.
SPLIT_NAMES = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "eval": "test",
}  # fmt: skip


@dataclass(kw_only=True)
class DataSource(ABC):
    """A source of labeled examples. A new source is a subclass with a ``read`` method.

    Attributes:
        column_roles: roles whose column the user can name with an option of the same name.
        name: name in reports.
        text: column of the text; ``None``: the task's usual names. Columns without a name are
            called by their number, from 1.
        text_pair: column of the second text; ``auto`` takes a column ``text_pair`` if there is
            one, ``None`` ignores it.
        label: column of the label; ``None``: the task's usual names. A field of records is named
            by its path (``labels.binary``). For tasks with several labels also a list of columns,
            one for each class, of 0 and 1.
        labels: names of the integer labels 0, 1, ..., or the order of labels that are strings.
        label_separator: separator of the labels of one example in a text column, for tasks with
            several labels; ``None``: a comma.
        limit: maximum number of training examples; validation and test stay whole.
        subset_seed: which subset of that many: 0 for the first by a hash of their inputs, any other
            number for a random one. A larger limit takes a superset of the same number.
        unlabeled: inputs without labels for the student's training, one of these or a list of
            several: a file, a folder of files, a hub id (``ID:SUBSET`` for one of several
            configurations), ``train`` (what ``limit`` leaves of it), ``test`` (if it has no
            labels), or a name that the source itself knows, see :meth:`unlabeled_split`.
        unlabeled_limit: maximum number of them; 0 leaves all of them out.
        unlabeled_select: which of them: ``random``, by a hash, as many as there are; ``nearest``,
            the nearest to each training example, see :mod:`distill.data.retrieval`.
        unlabeled_neighbors: of ``nearest``, number of texts per training example; ``None``: 10.
        unlabeled_encoder: of ``nearest``, the model whose vectors are compared; ``None``: the
            teacher before fine-tuning.
        augmentation: generates further inputs without labels from the training examples.
        empty: handling of empty texts: ``error`` or ``drop``.
        drop_unlabeled: whether rows without a label are left out: of everything that may stand for
            a missing label (nothing, ``-``, -1, ``nan``, ``null`` and the like) if ``True``, of
            nothing if ``False``. ``None``: of what marks it by convention, ``-`` among words and -1
            among class ids; a label that is really missing is an error.
        max_length: maximum number of tokens of an example.
        batch_size: number of examples of a training step.
    """

    column_roles: ClassVar[tuple[str, ...]] = ("text", "text_pair", "label")
    # Whether unlabeled_split also reads files and folders, in a form of the source's own.
    reads_unlabeled_paths: ClassVar[bool] = False

    name: str
    text: str | int | None = None
    text_pair: str | None = "auto"
    label: str | int | list[str] | None = None
    labels: list[str | int | float | bool] | None = None
    label_separator: str | None = None
    limit: int | None = None
    subset_seed: int = 0
    unlabeled: str | list[str] | None = None
    unlabeled_limit: int | None = None
    unlabeled_select: Literal["random", "nearest"] = "random"
    unlabeled_neighbors: int | None = None
    unlabeled_encoder: str | None = None
    augmentation: Any = None
    empty: Literal["error", "drop"] = "error"
    drop_unlabeled: bool | None = None
    max_length: int = 128
    batch_size: int = 32

    def __post_init__(self) -> None:
        # How the last reading went, for the report.
        self.read_notes: list[str] = []
        if isinstance(self.text, int):
            self.text = str(self.text)
        if isinstance(self.label, int):
            self.label = str(self.label)
        if self.labels is not None:
            self.labels = [str(name) for name in self.labels]
        for key in ("limit", "unlabeled_neighbors", "max_length", "batch_size"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise UserError(f"data.{key}={value}: it must be 1 or more")
        if self.unlabeled_limit is not None and self.unlabeled_limit < 0:
            raise UserError(f"data.unlabeled_limit={self.unlabeled_limit}: it must be 0 or more")
        if self.unlabeled_select not in ("random", "nearest"):
            raise UserError(f"data.unlabeled_select={self.unlabeled_select}: random or nearest")
        if self.unlabeled_select == "random":
            for key in ("unlabeled_neighbors", "unlabeled_encoder"):
                if getattr(self, key) is not None:
                    raise UserError(
                        f"data.{key}={getattr(self, key)} is about data.unlabeled_select=nearest, "
                        "which is not set"
                    )
        if self.subset_seed < 0:
            raise UserError(f"data.subset_seed={self.subset_seed}: it must be 0 or more")
        if self.subset_seed and self.limit is None:
            raise UserError(
                f"data.subset_seed={self.subset_seed} chooses among nothing: say how many training "
                "examples with data.limit=..."
            )
        if self.label_separator == "":
            raise UserError("data.label_separator is empty: name the separator of labels")
        if self.empty not in ("error", "drop"):
            raise UserError(f"data.empty={self.empty}: choose error or drop")
        if self.unlabeled is not None and not (self.unlabeled and all(self.unlabeled)):
            raise UserError(f"data.unlabeled={self.unlabeled} names nothing: leave it at null")
        if self.unlabeled_limit is not None and self.unlabeled is None:
            raise UserError(
                f"data.unlabeled_limit={self.unlabeled_limit} limits nothing: "
                "give texts with data.unlabeled=..."
            )
        if self.unlabeled_select != "random" and self.unlabeled is None:
            raise UserError(
                f"data.unlabeled_select={self.unlabeled_select} selects nothing: "
                "give texts with data.unlabeled=..."
            )
        if self.augmentation is not None and not hasattr(self.augmentation, "settings"):
            raise UserError(
                f"data.augmentation={self.augmentation}: it is a group, set "
                f"augmentation={self.augmentation}"
            )

    @abstractmethod
    def read(self, cache_dir: Path) -> dict[str, Dataset]:
        """Return the splits that exist among ``train``, ``validation`` and ``test``, unchanged.

        Raises:
            UserError: if there is nothing to read.
        """

    def column_hint(self) -> str:
        """Return a hint appended to the message about a missing column."""
        return ""

    def unlabeled_split(self, name: str, cache_dir: Path) -> Dataset | None:
        """Return the source's own unlabeled rows of a name; ``None`` if it has none."""
        return None


def read_with_datasets(
    *arguments: Any, cache_dir: Path, description: str, **options: Any
) -> dict[str, Dataset]:
    """Call ``datasets.load_dataset`` without progress bars; raise its failures as UserError.

    Args:
        *arguments: positional arguments of ``load_dataset``.
        cache_dir: the program's cache.
        description: what messages call the data.
        **options: further arguments of ``load_dataset``.
    """
    import datasets

    kept = cache_dir / "datasets"
    _discard_damaged(kept, str(arguments[0]))
    datasets.disable_progress_bars()
    verbosity = datasets.logging.get_verbosity()
    # It logs the failure that is raised: the message below says it once.
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        loaded = datasets.load_dataset(*arguments, cache_dir=str(kept), **options)
    except Exception as error:  # those of datasets, pandas, pyarrow and the hub have no common base
        cause = error.__cause__ or error
        # An empty txt file raises the second one.
        if "corresponds to no data" in str(error) or type(cause).__name__ == "SchemaInferenceError":
            raise UserError(f"{description} has no examples") from error
        reason = " ".join(str(cause).split())[:300]
        raise UserError(f"cannot read {description}: {type(cause).__name__}: {reason}") from error
    finally:
        datasets.logging.set_verbosity(verbosity)
    _add_checksums(loaded.values())
    return dict(loaded)


def _discard_damaged(folder: Path, name: str) -> None:
    """Remove what ``datasets`` has kept of a data set where it is not what was written.

    It would map damaged files into memory; what is removed it makes anew of what was downloaded.

    Args:
        folder: cache of ``datasets``.
        name: the data set as it is loaded, such as ``owner/name``.
    """
    wanted = _normalized(name)
    for kept in folder.iterdir() if folder.is_dir() else ():
        if not kept.is_dir() or _normalized(kept.name) != wanted:
            continue
        for found in sorted(kept.rglob(CHECKSUMS)):
            try:
                check_folder(found.parent)
            except DamagedError as damage:
                log.warning("cache: %s is damaged (%s): made anew", found.parent, damage)
                remove(found.parent)


def _normalized(name: str) -> str:
    """Return what the name of a data set and that of its folder in the cache have in common."""
    return re.sub(r"[\W_]+", "", name).lower()


def _add_checksums(loaded: Iterable[Dataset]) -> None:
    """Write checksums of the files that ``datasets`` keeps, where there are none yet."""
    folders = {Path(file["filename"]).parent for rows in loaded for file in rows.cache_files}
    for folder in folders:
        if not (folder / CHECKSUMS).exists():
            files = [file.name for file in folder.iterdir() if file.suffix in (".arrow", ".json")]
            write_checksums(folder, files=files)
