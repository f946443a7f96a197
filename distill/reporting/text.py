"""Numbers and tables as text: one way to write each kind of number, wherever it is read."""

from __future__ import annotations

import math
from collections.abc import Sequence

ABSENT = "–"
# Differences below are 0 up to the order of summation.
ROUNDING = 1e-9


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


def difference(value: float | None, in_points: bool = True) -> str:
    """Write a signed difference, in points (hundredths) or as it is.

    One that the usual digits would show as 0 is written with one significant digit: +0.04.
    """
    if value is None:
        return ABSENT
    shown, digits = (100 * value, 1) if in_points else (value, 3)
    text = f"{shown:+.{digits}f}"
    if float(text):
        return text.replace("-", "−")
    if abs(shown) < ROUNDING:
        return text.replace("-", "+")
    return f"{'+' if shown > 0 else '−'}{significant(abs(shown), 1)}"


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


def plain_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Return aligned lines, the header first; the first ``left`` columns are left-aligned."""
    table = [list(header), *map(list, rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    return [
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def markdown_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1
) -> list[str]:
    """Return the lines of a Markdown table; ``|`` in a cell is escaped."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = "|" + "|".join("---" if i < left else "---:" for i in range(len(header))) + "|"
    return [line(header), rule, *map(line, rows)]
