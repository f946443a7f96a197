"""The comparison as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distill.reporting import text
from distill.reporting.comparison_columns import table_columns
from distill.reporting.comparison_summary import footnotes, summarize
from distill.reporting.formats.base import TextFormat, register_format

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
            [
                text.escape_markdown(column.cell(row)) if column.is_text else column.cell(row)
                for column in columns
            ]
            for row in comparison.rows
            if not row.is_control
        ]
        left = sum(column.is_text or not column.head for column in columns)
        data = comparison.data
        escape = text.escape_markdown
        heads = [escape(column.head) for column in columns]
        sections = [
            f"# {escape(f'{data.name}, {data.evaluated_on} set: comparison')}",
            *([f"**{escape(comparison.answer.text)}**"] if comparison.answer else []),
            "\n".join(text.markdown_table(heads, rows, left)),
            "\n\n".join(map(escape, summarize(comparison))),
            " ".join(map(escape, ["* On the front.", *footnotes(comparison)])),
        ]
        if comparison.unfinished:
            sections.append("## Not in the comparison")
            sections.append("\n".join(f"- {escape(str(run))}" for run in comparison.unfinished))
        return "\n\n".join(sections) + "\n"
