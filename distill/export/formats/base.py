"""What every format of an exported model provides."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from distill.answers.tokenizer import TokenizerSettings
from distill.export.source import ExportSource
from distill.predict.runtimes import Runtime


class ExportFormat(ABC):
    """One way to write a model.

    Attributes:
        name: value of ``--format``, name of the form, and of the folder below the model's.
        file: name of the weights' file.
        tokenizer_file: where ``tokenizer.json`` lies, from the folder.
    """

    name: ClassVar[str]
    file: ClassVar[str]
    tokenizer_file: ClassVar[str]

    @abstractmethod
    def obstacle(self, source: ExportSource) -> str | None:
        """Return why a model cannot be written in this format; ``None`` if it can."""

    @abstractmethod
    def write(self, source: ExportSource, folder: Path) -> None:
        """Write a model into an empty folder."""

    @abstractmethod
    def load(self, folder: Path, settings: TokenizerSettings) -> Runtime:
        """Return a runtime of what was written."""


EXPORT_FORMATS: dict[str, ExportFormat] = {}


def register_export_format(kind: type[ExportFormat]) -> type[ExportFormat]:
    """Add a format under its name; a class decorator."""
    EXPORT_FORMATS[kind.name] = kind()
    return kind
