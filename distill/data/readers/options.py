"""How files are to be read."""

import codecs
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from distill.core.errors import UserError

Layout = Literal["auto", "conll", "table", "text"]
BadLines = Literal["error", "drop"]
# Separators by the names that are easier to write in a shell.
_DELIMITERS = {
    "tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " ",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """Options of the readers of files.

    Attributes:
        quotes: whether fields may be enclosed in double quotes; ``None``: in csv, but not in tsv.
        layout: ``conll`` for a word per line, ``table`` for csv and tsv, ``text`` for an example
            per line, whatever the suffix; ``auto`` decides by suffix and content.
        encoding: name of a codec; ``None``: what a byte order mark says, else UTF-8.
        delimiter: character between the fields of a table, or its name (``tab``); ``None``: comma
            or tab by the suffix, or the one that its first lines have.
        columns: names of the columns of tables without a header.
        header: whether the first line of a table names its columns; ``None``: unless ``columns``
            are given and the line holds none of them.
        bad_lines: ``drop`` leaves out lines of tables with too many or too few fields.

    Raises:
        UserError: for a value that an option cannot have.
    """

    quotes: bool | None = None
    layout: Layout = "auto"
    encoding: str | None = None
    delimiter: str | None = None
    columns: tuple[str, ...] | None = None
    header: bool | None = None
    bad_lines: BadLines = "error"

    def __post_init__(self) -> None:
        if self.layout not in get_args(Layout):
            *most, last = get_args(Layout)
            raise UserError(f"data.layout={self.layout}: choose {', '.join(most)} or {last}")
        if self.bad_lines not in get_args(BadLines):
            raise UserError(f"data.bad_lines={self.bad_lines}: choose error or drop")
        if self.layout in ("conll", "text"):
            for name in ("quotes", "delimiter", "columns", "header"):
                if getattr(self, name) is not None:
                    raise UserError(
                        f"data.{name} says how csv and tsv are read, not data.layout={self.layout}"
                    )
        if self.encoding is not None:
            try:
                codecs.lookup(self.encoding)
            except LookupError:
                raise UserError(
                    f"data.encoding={self.encoding}: there is no such encoding (such as utf-8, "
                    "utf-16, cp949, cp932, gb18030, latin-1)"
                ) from None
        if self.columns is not None:
            doubled = sorted({name for name in self.columns if self.columns.count(name) > 1})
            if not self.columns or doubled:
                problem = f"'{doubled[0]}' stands twice" if doubled else "it names no column"
                raise UserError(f"data.columns={list(self.columns)}: {problem}")
        if self.separator is not None and (
            len(self.separator) != 1 or self.separator in '"\r\n' or self.separator.isalnum()
        ):
            raise UserError(
                f"data.delimiter={self.delimiter}: it must be one character (or its name: "
                "tab, comma, semicolon, pipe, space)"
            )

    @property
    def separator(self) -> str | None:
        """The character that ``delimiter`` stands for."""
        return None if self.delimiter is None else _DELIMITERS.get(self.delimiter, self.delimiter)

    def settings(self) -> dict[str, object]:
        """Plain values, for cache keys."""
        return asdict(self)
