"""The interface of output formats, and their registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, TypeVar

from distill.reporting.files import write_text

if TYPE_CHECKING:
    from distill.reporting.compare import RunComparison


class Format(ABC):
    """A way to write a comparison of runs.

    Attributes:
        name: As ``--format`` spells it.
        suffix: Of its files, with the dot: ``-o FILE`` chooses the format by it.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]

    @abstractmethod
    def save(self, comparison: RunComparison, path: Path) -> None:
        """Write the comparison into a file; a reader never sees a part of it."""


class TextFormat(Format):
    """A format that can be printed as well."""

    @abstractmethod
    def render(self, comparison: RunComparison, width: int | None = None) -> str:
        """Return the comparison as text.

        Args:
            comparison: What to show.
            width: Columns of the terminal; None: unlimited.
        """

    def save(self, comparison: RunComparison, path: Path) -> None:
        """Write the text into a file."""
        write_text(path, self.render(comparison))


_REGISTRY: dict[str, Format] = {}
FORMATS: Mapping[str, Format] = MappingProxyType(_REGISTRY)
"""All registered formats by name."""

FormatClass = TypeVar("FormatClass", bound=type[Format])


def register_format(cls: FormatClass) -> FormatClass:
    """Register a format; a class decorator.

    Raises:
        ValueError: Its name or suffix is taken.
    """
    for other in _REGISTRY.values():
        if cls.name == other.name or cls.suffix == other.suffix:
            raise ValueError(
                f"format {cls.name} ({cls.suffix}): {other.name} has the suffix {other.suffix}"
            )
    _REGISTRY[cls.name] = cls()
    return cls


def format_of(path: Path) -> Format | None:
    """Return the format that a file's suffix stands for."""
    suffix = path.suffix.lower()
    return next((known for known in FORMATS.values() if known.suffix == suffix), None)
