"""Formats of exported models, one file each.

A module in this folder registers its format with :func:`register_export_format`; nothing else has
to be changed but :mod:`distill.export.format_names`, which help texts read.
"""

from importlib import import_module
from pkgutil import iter_modules

from distill.export.formats.base import EXPORT_FORMATS, ExportFormat, register_export_format

__all__ = ["EXPORT_FORMATS", "ExportFormat", "register_export_format"]

for _module in sorted(module.name for module in iter_modules(__path__)):
    import_module(f"{__name__}.{_module}")
