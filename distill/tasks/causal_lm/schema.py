"""Documents, or prompts with responses."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from datasets import Dataset

from distill.core.errors import UserError
from distill.data.schema import Column, TextInput
from distill.tasks.masked_lm.schema import PlainTextSchema

Documents = Literal["rows", "paragraphs", "blocks"]
DOCUMENTS: tuple[Documents, ...] = ("rows", "paragraphs", "blocks")
BLOCK_CHARACTERS = 2_000
"""Least number of characters of a block of lines."""


class CausalLMSchema(PlainTextSchema):
    """A text; or a prompt and its response.

    Args:
        task_name: name of the task, for messages.
        documents: ``rows``: each row is a document; ``paragraphs``: consecutive rows until an empty
            one are the lines of a document; ``blocks``: consecutive rows, empty ones among them,
            are the lines of documents of ``BLOCK_CHARACTERS`` characters or more.
        pairs: columns of prompts and responses; ``None``: plain text.
    """

    def __init__(
        self,
        task_name: str,
        documents: Documents = "rows",
        pairs: Sequence[str] | None = None,
    ):
        super().__init__(task_name)
        self.documents = documents
        if pairs is not None:
            prompt, response = pairs
            self.columns: Mapping[str, Column] = {
                "prompt": Column((prompt,), TextInput()),
                "response": Column((response,), TextInput()),
            }

    @property
    def settings(self) -> dict[str, Any]:
        """How rows become documents."""
        return {"documents": self.documents, "columns": sorted(self.columns)}

    def clean_rows(self, rows: Dataset, label: str | None) -> Dataset:
        """Join lines to documents.

        Raises:
            UserError: without a column ``text``.
        """
        if self.documents == "rows":
            return rows
        if "text" not in rows.column_names:
            raise UserError(
                f"task.documents={self.documents} joins the lines of a column text, there are "
                f"{', '.join(rows.column_names)}: use task.documents=rows"
            )
        join = paragraphs if self.documents == "paragraphs" else blocks
        return Dataset.from_dict({"text": join(rows["text"][:])})

    def describe_outputs(self, names: Sequence[str]) -> str:
        """Describe the outputs."""
        return "next tokens"


def paragraphs(lines: Sequence[str | None]) -> list[str]:
    """Return consecutive lines joined, one text for each run of lines that are not empty."""
    found: list[str] = []
    current: list[str] = []
    for line in [*lines, None]:
        if line is not None and line.strip():
            current.append(line)
        elif current:
            found.append("\n".join(current))
            current = []
    return found


def blocks(lines: Sequence[str | None]) -> list[str]:
    """Return consecutive lines joined to texts of a least length; empty lines are kept."""
    found: list[str] = []
    current: list[str] = []
    size = 0
    for line in lines:
        current.append(line or "")
        size += len(current[-1]) + 1
        if size >= BLOCK_CHARACTERS:
            found.append("\n".join(current))
            current, size = [], 0
    if "".join(current).strip():
        found.append("\n".join(current))
    return [text for text in found if text.strip()]
