"""Text for terminals and logs: control characters of data are shown, not obeyed."""

import logging
import re

# All but tab and line break: an escape sequence in a label or a path could hide or forge lines,
# set the title or answer in the user's name. Marks of direction rearrange what stands around them.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)


def printable(text: str) -> str:
    r"""Return a text with control characters as escapes.

    >>> printable("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


class PrintableFormatter(logging.Formatter):
    """Formats log records without control characters."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line."""
        return printable(super().format(record))
