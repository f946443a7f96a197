"""Quotes around values of the command line that Hydra's grammar does not accept bare.

Its lexer knows ASCII letters, digits and a few signs: ``data.path=한국어``, ``data.text=Très`` and
names with ``(`` or ``;`` are errors without quotes inside of those of the shell.
"""

import re
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

_OVERRIDE = re.compile(r"(?P<option>[+~]{0,2}[A-Za-z_][\w./@-]*)=(?P<value>.*)", re.DOTALL)
# Signs that separate the elements of lists and mappings.
_STRUCTURE = "[]{},:"


def quote_overrides(arguments: Sequence[str]) -> list[str]:
    """Return command-line arguments with quotes around the values that need them.

    Arguments that Hydra can read, flags, and values of plain ASCII with ``=`` or ``$`` in them
    (more likely mistakes than names) are left as they are.

    Args:
        arguments: As on the command line; in a sweep (``-m``), commas separate values.
    """
    is_sweep = any(argument in ("-m", "--multirun") for argument in arguments)
    return [_quote_override(argument, is_sweep) for argument in arguments]


def _quote_override(argument: str, is_sweep: bool) -> str:
    match = _OVERRIDE.fullmatch(argument)
    if match is None or _is_readable(argument):
        return argument
    value = match["value"]
    if value.isascii() and re.search(r"[=$]", value):
        return argument
    stripped = value.strip()
    if stripped[:1] in ("[", "{"):
        quoted = _quote_elements(value, _STRUCTURE)
    elif is_sweep:
        quoted = _quote_elements(value, ",")
    else:
        quoted = _quote(value)
    result = f"{match['option']}={quoted}"
    return result if _is_readable(result) else argument


def _quote_elements(value: str, separators: str) -> str:
    """Quote the parts between separators that need it; those in quotes stay as they are."""
    parts = re.split(rf"('(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|[{re.escape(separators)}])", value)
    for index, part in enumerate(parts):
        is_delimiter = index % 2 == 1
        if not is_delimiter and part.strip() and not _is_readable(f"x={part.strip()}"):
            space = part[: len(part) - len(part.lstrip())]
            parts[index] = space + _quote(part.strip())
    return "".join(parts)


def _quote(value: str) -> str:
    # Backslashes are special only before a quote, and at the end.
    escaped = re.sub(r"(\\*)'", lambda match: match[1] * 2 + "\\'", value)
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return "'" + escaped + "\\" * trailing + "'"


def _is_readable(argument: str) -> bool:
    try:
        OverridesParser.create().parse_override(argument)
    except HydraException:
        return False
    return True
