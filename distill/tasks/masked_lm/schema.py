"""Plain text without labels."""

from collections.abc import Mapping, Sequence

from datasets import Dataset

from distill.core.errors import UserError
from distill.data.schema import Column, DataSchema, TextInput


class PlainTextSchema(DataSchema):
    """A text, no label."""

    columns: Mapping[str, Column] = {"text": Column(("text",), TextInput())}

    def label_names(self, splits: Mapping[str, Dataset], given: Sequence[str] | None) -> list[str]:
        """Return no names: the outputs are the tokenizer's tokens.

        Raises:
            UserError: if ``data.labels`` names classes.
        """
        if given is not None:
            raise UserError(
                f"data.labels names classes: task={self.task_name} has none, set data.labels=null"
            )
        return []

    def targets(self, split: str, rows: Dataset, names: Sequence[str]) -> None:
        """Return nothing: labels are the masked tokens."""

    def missing_label(self, names: Sequence[str]) -> None:
        """Return nothing."""

    def describe_outputs(self, names: Sequence[str]) -> str:
        """Describe the outputs."""
        return "masked tokens"
