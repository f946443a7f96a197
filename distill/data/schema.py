"""Which columns a task reads, what they hold, and how labels become targets."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from datasets import Dataset

from distill.core.errors import UserError
from distill.data.columns import describe_type

LABEL = "label"
"""Role (and name in prepared data) of the column with the labels."""

Targets = Sequence[Any] | np.ndarray
"""Labels of a split as loss and metrics take them, one entry per row."""


class InputType(ABC):
    """Content of an input column: text, words, an image.

    Attributes:
        has_faults: whether a value may be there and still be unusable, such as a damaged image.
    """

    has_faults: ClassVar[bool] = False

    @abstractmethod
    def validate(self, role: str, split: str, feature: Any) -> None:
        """Raise a ``UserError`` if a column does not hold this type.

        Args:
            role: role of the column, such as ``text``.
            split: name of the split.
            feature: type of the column, as ``datasets`` declares it.
        """

    @abstractmethod
    def is_empty(self, value: Any) -> bool:
        """Return whether a value has no content to read."""

    @abstractmethod
    def key(self, value: Any) -> str:
        """Return the canonical string of a value, used to hash and deduplicate rows."""

    def fault(self, value: Any) -> str | None:
        """Return why a value that is not empty cannot be used; ``None`` if it can.

        Only asked of types with :attr:`has_faults`, of every value once, when data are prepared.
        """
        return None


class TextInput(InputType):
    """A column of strings."""

    def validate(self, role: str, split: str, feature: Any) -> None:
        """Raise a ``UserError`` if the column does not hold strings."""
        if (kind := describe_type(feature)) not in ("string", "large_string"):
            raise UserError(f"the column of data.{role} holds {kind} in {split}, not text")

    def is_empty(self, value: str | None) -> bool:
        """Return whether a text is missing or white space only."""
        return value is None or not value.strip()

    def key(self, value: str) -> str:
        """Return the text itself."""
        return value


@dataclass(frozen=True)
class Column:
    """One column that a task reads.

    Attributes:
        names: usual names of the column, tried in this order unless the user names it.
        type: content of an input column; ``None`` for the label.
        optional: whether the task works without it.
    """

    names: tuple[str, ...]
    type: InputType | None = None
    optional: bool = False


class DataSchema(ABC):
    """Columns and labels of a task: everything that data preparation asks about it.

    Args:
        task_name: name of the task, for messages.

    Attributes:
        columns: the columns by role; roles are the column names in prepared data.
        multiple_labels: whether a label is a list of classes.
        categorical: whether labels, or the items of lists of labels, are names or ids of classes.
        group_by: role of the input that several rows share, such as the context of questions; rows
            that share it stay on one side when a split is cut from train. ``None``: none.
        allows_augmentation: whether new inputs can be generated from training examples.
        inputs_are: what messages call the inputs.
        foreign_options: options of data and models that say nothing about these inputs, and that
            are refused where they are given: their names, or how they begin.
    """

    columns: Mapping[str, Column]
    multiple_labels: ClassVar[bool] = False
    categorical: ClassVar[bool] = False
    group_by: ClassVar[str | None] = None
    allows_augmentation: ClassVar[bool] = True
    inputs_are: ClassVar[str] = "texts"
    foreign_options: ClassVar[tuple[str, ...]] = ()

    def __init__(self, task_name: str):
        self.task_name = task_name

    @property
    def inputs(self) -> dict[str, InputType]:
        """The type of each input column by role, without the label."""
        return {
            role: column.type for role, column in self.columns.items() if column.type is not None
        }

    @property
    def has_labels(self) -> bool:
        """Whether the task reads labels."""
        return LABEL in self.columns

    @property
    def settings(self) -> dict[str, Any]:
        """Plain values that labels depend on, for cache keys."""
        return {}

    @abstractmethod
    def label_names(self, splits: Mapping[str, Dataset], given: Sequence[str] | None) -> list[str]:
        """Return a name for each of the head's outputs.

        Args:
            splits: checked rows by split.
            given: value of ``data.labels``.

        Raises:
            UserError: if the labels do not fit the task.
        """

    @abstractmethod
    def targets(self, split: str, rows: Dataset, names: Sequence[str]) -> Targets | None:
        """Return the labels of a split as loss and metrics take them, one entry per row.

        Numbers are arrays ``(N,)`` or ``(N, C)``: a split may have millions of rows. ``None`` for a
        task without labels.

        Raises:
            UserError: for a label that is missing or invalid.
        """

    @abstractmethod
    def missing_label(self, names: Sequence[str]) -> Any:
        """Return the target of an example without a label."""

    @abstractmethod
    def describe_outputs(self, names: Sequence[str]) -> str:
        """Describe the head's outputs in a few words for the log."""

    def set_label_names(self, names: Sequence[str]) -> None:
        """Receive the label names, whether they were prepared now or come from the cache."""
        return

    def clean_rows(self, rows: Dataset, label: str | None) -> Dataset:
        """Return the source's rows corrected before columns are selected.

        Args:
            rows: rows with the source's own columns.
            label: the source's name of the label column.
        """
        return rows

    def target_note(self, split: str, labels: Sequence[Any], targets: Targets) -> str | None:
        """Return a note for the report on how labels were turned into targets."""
        return None

    def target_bytes(self, targets: Targets) -> bytes:
        """Serialize targets for hashing."""
        array = np.asarray(targets)
        return array.astype(np.float64 if array.dtype.kind == "f" else np.int64).tobytes()

    def column_hint(self, role: str) -> str:
        """Return a hint appended to the message about a missing column."""
        return ""
