"""The comparison as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distill.reporting import text
from distill.reporting.columns import table_columns
from distill.reporting.formats.base import TextFormat, register_format
from distill.reporting.summary import footnotes, summarize

if TYPE_CHECKING:
    from distill.reporting.compare import RunComparison


@register_format
class Markdown(TextFormat):
    """A Markdown document with the whole table."""

    name = "markdown"
    suffix = ".md"

    def render(self, comparison: RunComparison, width: int | None = None) -> str:
        """Return the document; ``width`` does not matter."""
        columns = table_columns(comparison)
        # A control is part of its student's gain and has no row.
        rows = [
            [column.cell(row) for column in columns]
            for row in comparison.rows
            if not row.is_control
        ]
        left = sum(column.is_text or not column.head for column in columns)
        data = comparison.data
        sections = [
            f"# {data.name}, {data.evaluated_on} set: comparison",
            *([f"**{comparison.answer.text}**"] if comparison.answer else []),
            "\n".join(text.markdown_table([column.head for column in columns], rows, left)),
            "\n\n".join(summarize(comparison)),
            " ".join(["\\* On the front.", *footnotes(comparison)]),
        ]
        if comparison.unfinished:
            sections.append("## Not in the comparison")
            sections.append("\n".join(f"- {run}" for run in comparison.unfinished))
        return "\n\n".join(sections) + "\n"
