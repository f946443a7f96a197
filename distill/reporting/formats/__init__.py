"""Output formats of a comparison of runs, one file each.

A module in this folder registers its format with :func:`register_format`; nothing else has to be
changed. A format from another package is found by an entry point::

    [project.entry-points."distill.reporting"]
    latex = "my_package.latex"  # a module that calls register_format, register_quantity or both
"""

from __future__ import annotations

import shutil
import sys
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from distill.reporting.formats.base import (
    FORMATS,
    Format,
    TextFormat,
    format_of,
    register_format,
)

if TYPE_CHECKING:
    from distill.reporting.compare import RunComparison

__all__ = [
    "FORMATS",
    "Format",
    "TextFormat",
    "format_of",
    "load_plugins",
    "register_format",
    "render",
    "save",
    "terminal_width",
]

ENTRY_POINTS = "distill.reporting"

for _module in sorted(module.name for module in iter_modules(__path__)):
    import_module(f"{__name__}.{_module}")


@cache
def load_plugins() -> None:
    """Import the modules that other packages name as entry points of ``distill.reporting``."""
    for entry_point in metadata.entry_points(group=ENTRY_POINTS):
        entry_point.load()


def render(comparison: RunComparison, name: str, width: int | None = None) -> str:
    """Return the comparison as text.

    Args:
        comparison: What to show.
        name: Of a :class:`TextFormat`: ``table``, ``markdown``, ``csv``, ``json``, ``html``, ...
        width: Columns of the terminal; the table leaves out what does not fit and says so.
    """
    chosen = FORMATS[name]
    assert isinstance(chosen, TextFormat), name
    return chosen.render(comparison, width)


def save(comparison: RunComparison, path: Path, name: str | None = None) -> None:
    """Write the comparison in the format called ``name``, or that the suffix stands for."""
    chosen = FORMATS[name] if name else format_of(path)
    assert chosen is not None, path
    chosen.save(comparison, path)


def terminal_width() -> int | None:
    """Return the width of the terminal; None where the output goes somewhere else."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
