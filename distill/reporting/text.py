"""Numbers and tables as text: one way to write each kind of number, wherever it is read."""

from __future__ import annotations

import html
import math
import re
import unicodedata
from collections.abc import Sequence

ABSENT = "–"
# Differences below are 0 up to the order of summation.
ROUNDING = 1e-9
# Line breaks of any kind and tabs; other control characters and marks of direction, which could
# hide or rearrange what stands around a name.
_LINE_BREAKS = re.compile("[\t\n\v\f\r\x85\u2028\u2029]+")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# Characters that Markdown would read as markup where they stand: underscores within words and
# brackets without a target are text.
_MARKUP = re.compile(r"[\\`*]|~~|(?<![^\W_])_|_(?![^\W_])|<(?=[\w/!?])|&(?=#?\w+;)|\]\(")


def finite(value: object) -> float | None:
    """Return ``value`` if it is a finite number, otherwise None (null, NaN, infinity, text)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def words(name: str) -> str:
    """Return an identifier as words: ``macro_f1`` -> ``macro f1``."""
    return name.replace("_", " ")


def short(value: float | None, digits: int = 3) -> str:
    """Write a quantity with a unit prefix: 22713216 -> ``22.7 M``."""
    if value is None:
        return ABSENT
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor * 0.9995:
            return f"{significant(value / factor, digits)} {prefix}"
    return significant(value, digits)


def significant(value: float | None, digits: int = 3) -> str:
    """Write ``value`` with this many significant digits, never in exponent notation."""
    if value is None:
        return ABSENT
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")
    return f"{rounded:.{max(digits - 1 - math.floor(math.log10(abs(rounded))), 0)}f}"


def megabytes(value: float | None) -> str:
    """Write bytes in MB (10^6)."""
    return ABSENT if value is None else significant(value / 1e6)


def score(value: float | None) -> str:
    """Write a metric's value: three decimals, for large ones four significant digits."""
    if value is None:
        return ABSENT
    text = f"{value:.3f}" if abs(value) < 10 else significant(value, 4)
    return text.replace("-", "−") if float(text) else text.removeprefix("-")


def with_interval(value: float | None, low: float | None, high: float | None) -> str:
    """Write ``0.871 [0.855, 0.887]``, without the brackets where there is no interval."""
    if value is None or low is None or high is None:
        return score(value)
    return f"{score(value)} [{score(low)}, {score(high)}]"


def difference(value: float | None, in_points: bool = True, digits: int | None = None) -> str:
    """Write a signed difference, in points (hundredths) or as it is.

    Args:
        value: The difference.
        in_points: Whether it is written in points.
        digits: Decimals; ``None``: the usual ones, or one significant digit of what these would
            show as 0: +0.04.
    """
    if value is None:
        return ABSENT
    shown = 100 * value if in_points else value
    if digits is None:
        digits = difference_digits((value,), in_points)
    written = f"{shown:+.{digits}f}"
    return written.replace("-", "−") if float(written) else written.replace("-", "+")


def difference_digits(values: Sequence[float | None], in_points: bool = True) -> int:
    """Return the decimals that show a difference and the ends of its interval, where not 0.

    Args:
        values: The difference, then the ends, which get two decimals more than usual at most.
        in_points: Whether they are written in points.
    """
    usual = 1 if in_points else 3

    def needed(value: float | None) -> int:
        size = abs(value or 0.0) * (100 if in_points else 1)
        if size < ROUNDING or float(f"{size:.{usual}f}"):
            return usual
        return len(significant(size, 1).partition(".")[2])

    value, *ends = values
    return max(needed(value), *(min(needed(end), usual + 2) for end in ends), usual)


def p_value(p: float | None) -> str:
    """Write a p-value with two digits, and no false precision near 0."""
    if p is None:
        return ABSENT
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.095 else f"{p:.2f}"


def p_equals(p: float) -> str:
    """Write ``p = 0.62`` or ``p < 0.001``."""
    text = p_value(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def percent(ratio: float | None) -> str:
    """Write a ratio in percent: with one decimal between 90 and 110, where retention lives."""
    if ratio is None:
        return ABSENT
    return f"{100 * ratio:.1f} %" if 0.9 <= ratio <= 1.1 else f"{significant(100 * ratio, 2)} %"


def percent_with_interval(ratio: float | None, low: float | None, high: float | None) -> str:
    """Write ``98.9 % [97.6, 100.2]``, without the brackets where there is no interval."""
    if ratio is None or low is None or high is None:
        return percent(ratio)
    ends = (percent(end).removesuffix(" %") for end in (low, high))
    return f"{percent(ratio)} [{', '.join(ends)}]"


def duration(seconds: float) -> str:
    """Write a time span: ``42 s``, ``3 min 20 s``, ``2 h 05 min``."""
    if seconds < 60:
        return f"{significant(seconds, 2)} s"
    minutes, rest = divmod(round(seconds), 60)
    return (
        f"{minutes} min {rest:02d} s"
        if minutes < 60
        else f"{minutes // 60} h {minutes % 60:02d} min"
    )


def one_line(value: str) -> str:
    """Return text on one line, without control characters and marks that reverse its direction."""
    return _CONTROL.sub("\ufffd", _LINE_BREAKS.sub(" ", value))


def escape_markdown(value: str) -> str:
    """Return plain text as Markdown that shows it as it is, also where HTML is allowed.

    Numbers, intervals and sentences stay readable as they are; ``|`` is escaped by
    :func:`markdown_table`.

    >>> print(escape_markdown("<b>*x*</b> a_b _c_ p < 0.1 [0, 1] [y](z)"))
    &lt;b>\\*x\\*&lt;/b> a_b \\_c\\_ p < 0.1 [0, 1] [y]\\(z)
    """
    return _MARKUP.sub(_escape, one_line(value))


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    return {"<": "&lt;", "&": "&amp;", "](": "]\\(", "~~": "&#126;" * 2}.get(
        character, f"\\{character}"
    )


def unescape_markdown(value: str) -> str:
    """Invert :func:`escape_markdown` and the escaping of table cells."""
    return html.unescape(re.sub(r"\\([\\`*_|(])", r"\1", value))


def code_span(value: str) -> str:
    """Return text as a code span of Markdown, whatever backticks it has."""
    value, fence = one_line(value), "`" * (1 + _longest_run_of_backticks(value))
    pad = " " if value.startswith("`") or value.endswith("`") else ""
    return f"{fence}{pad}{value}{pad}{fence}"


def code_block(value: str) -> str:
    """Return text as a fenced code block of Markdown, whatever backticks it has."""
    fence = "`" * max(3, 1 + _longest_run_of_backticks(value))
    return f"{fence}\n{value}\n{fence}"


def _longest_run_of_backticks(value: str) -> int:
    return max((len(run) for run in re.findall("`+", value)), default=0)


def display_width(value: str) -> int:
    """Return the columns that text takes in a terminal: East Asian wide characters take two."""
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1
        for one in value
    )


def plain_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Return aligned lines, the header first; the first ``left`` columns are left-aligned."""
    table = [[one_line(cell) for cell in row] for row in (header, *rows)]
    widths = [max(display_width(row[i]) for row in table) for i in range(len(header))]

    def padded(cell: str, width: int, is_left: bool) -> str:
        space = " " * (width - display_width(cell))
        return cell + space if is_left else space + cell

    return [
        "  ".join(
            padded(cell, width, i < left)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def markdown_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1
) -> list[str]:
    """Return the lines of a Markdown table; of the cells, which are Markdown, ``|`` is escaped."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(one_line(cell).replace("|", "\\|") for cell in cells) + " |"

    rule = "|" + "|".join("---" if i < left else "---:" for i in range(len(header))) + "|"
    return [line(header), rule, *map(line, rows)]
