"""The comparison as one HTML page that needs neither network nor library."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distill.reporting.comparison_columns import Column, gain_text, table_columns
from distill.reporting.comparison_summary import footnotes, summarize
from distill.reporting.formats.base import TextFormat, register_format
from distill.reporting.formats.json import as_dict
from distill.reporting.quantities import costs, quantity
from distill.reporting.templates import render_template
from distill.reporting.text import p_value, words

if TYPE_CHECKING:
    from distill.reporting.compare import RunComparison
    from distill.reporting.comparison_rows import Row

STAR = "* On the front: no other student is at least as good and as cheap."
SIDE_BY_SIDE = "In the figure, models of one cost stand side by side; touch one for its details."


@register_format
class Html(TextFormat):
    """A page with a figure whose axes can be chosen and a table that can be sorted."""

    name = "html"
    suffix = ".html"

    def render(self, comparison: RunComparison, width: int | None = None) -> str:
        """Return the page; ``width`` does not matter."""
        data = comparison.data
        tested = data.evaluated_examples
        columns = table_columns(comparison)
        return render_template(
            "page.html",
            title=f"{data.name}: {_count(len(comparison.candidates))}",
            about=(
                f"{words(comparison.task).capitalize()} on {data.name},"
                f" {tested if tested is not None else 'unknown number of'} {data.evaluated_on}"
                f" examples (fingerprint {data.fingerprint})."
            ),
            answer=comparison.answer.text if comparison.answer else None,
            summary=summarize(comparison),
            columns=columns,
            rows=[_line(row, columns) for row in comparison.rows],
            footnotes=[STAR, SIDE_BY_SIDE, *footnotes(comparison)],
            unfinished=list(map(str, comparison.unfinished)),
            # "<" could end the script element early.
            data=json.dumps(_figure_data(comparison), allow_nan=False).replace("<", "\\u003c"),
        )


def _count(students: int) -> str:
    return "1 student" if students == 1 else f"{students} students compared"


@dataclass(frozen=True)
class _Cell:
    text: str
    value: float | str  # what a click on the heading sorts by
    is_text: bool


@dataclass(frozen=True)
class _Line:
    style: str
    cells: list[_Cell]


def _line(row: Row, columns: Sequence[Column]) -> _Line:
    cells = []
    for column in columns:
        value = column.value(row)
        value = "" if value is None else int(value) if isinstance(value, bool) else value
        cells.append(_Cell(column.cell(row), value, column.is_text))
    return _Line(f"{row.role} front" if row.on_front else row.role, cells)


def _figure_data(comparison: RunComparison) -> dict[str, Any]:
    """Return the content of the JSON format, and the choices that the figure offers."""
    rows, content = comparison.rows, as_dict(comparison)
    measured = dict.fromkeys(
        name for row in rows for name, value in row.values.items() if value is not None
    )
    scores = {name for row in rows for name in row.scores}
    for row, entry in zip(rows, content["rows"], strict=True):
        if row.gain and comparison.metric:
            gain = gain_text(row, comparison.metric) + quantity(comparison.metric).difference_unit
            entry["gain"]["text"] = f"{gain}, p (Holm) {p_value(row.gain.p_holm)}"
    return content | {
        "axes": {
            "x": [name for name in costs() if name in measured],
            "y": [name for name in measured if name in scores or name == "retention"],
        },
        "settings": list(dict.fromkeys(name for row in rows for name in row.settings)),
        "labels": {name: quantity(name).axis_label for name in measured},
        "lower_is_better": [name for name in measured if not quantity(name).higher_is_better],
    }
