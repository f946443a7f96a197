"""The comparison as a table for the terminal."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from distill.reporting import text
from distill.reporting.columns import fit, table_columns
from distill.reporting.formats.base import TextFormat, register_format
from distill.reporting.summary import footnotes, summarize

if TYPE_CHECKING:
    from distill.reporting.compare import RunComparison

WIDTH = 100  # of running text


@register_format
class Table(TextFormat):
    """Aligned columns; those that do not fit into the terminal are left out, and named."""

    name = "table"
    suffix = ".txt"

    def render(self, comparison: RunComparison, width: int | None = None) -> str:
        """Return table, findings, footnotes, and the runs that are not compared."""
        # A control is part of its student's gain and has no row.
        rows = [row for row in comparison.rows if not row.is_control]
        columns = table_columns(comparison)
        shown = fit(columns, rows, width)
        heads = [column.head for column in shown]
        left = sum(column.is_text or not column.head for column in shown)
        lines = text.plain_table(heads, [[c.cell(row) for c in shown] for row in rows], left)
        paragraphs = [
            *summarize(comparison),
            " ".join(["* On the front.", *footnotes(comparison)]),
        ]
        hidden = [column.head for column in columns if column not in shown]
        if hidden:
            paragraphs.append(f"Not shown for want of width: {', '.join(hidden)}.")
        lines.append("")
        for paragraph in paragraphs:
            lines += textwrap.wrap(paragraph, min(width or WIDTH, WIDTH))
        if comparison.unfinished:
            lines += ["", "Not in the comparison:", *(f"  {run}" for run in comparison.unfinished)]
        if comparison.answer:
            lines += ["", *textwrap.wrap(comparison.answer.text, min(width or WIDTH, WIDTH))]
        return "\n".join(lines)
