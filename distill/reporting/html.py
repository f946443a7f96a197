"""The comparison as one HTML page that needs nothing else: no network, no library."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import Any

from distill.reporting.columns import Column, gain_text, table_columns
from distill.reporting.compare import Comparison
from distill.reporting.rows import COSTS
from distill.reporting.summary import footnotes, summarise
from distill.reporting.text import LOWER_IS_BETTER, difference_unit, label, p_value

STAR = "* On the front: no other student is at least as good and as cheap."
SIDE_BY_SIDE = "In the figure, models of one cost stand side by side; touch one for its details."


def page(comparison: Comparison, content: dict[str, Any]) -> str:
    """The whole page.

    Args:
        comparison: What the table and the sentences are made of.
        content: The same as the JSON format has it, for the figure.
    """
    data = comparison.data
    tested = (data.get("examples") or {}).get("test")
    about = (
        f"{label(comparison.task).capitalize()} on {data['name']},"
        f" {tested if tested is not None else 'unknown number of'} {data['evaluated_on']} examples"
        f" (fingerprint {data['fingerprint']})."
    )
    paragraphs = [f"<p>{escape(sentence)}</p>" for sentence in summarise(comparison)]
    if comparison.answer:
        paragraphs.insert(0, f'<p class="answer">{escape(comparison.answer.text)}</p>')
    parts = {
        "title": escape(f"{data['name']}: {len(comparison.candidates)} students compared"),
        "about": escape(about),
        "summary": "\n".join(paragraphs),
        "table": _table(comparison, table_columns(comparison)),
        "footnotes": "\n".join(
            f"<p>{escape(note)}</p>" for note in (STAR, SIDE_BY_SIDE, *footnotes(comparison))
        ),
        "unfinished": _unfinished(comparison),
        # "<" could end the script element early.
        "data": json.dumps(_figure_data(comparison, content), allow_nan=False).replace(
            "<", "\\u003c"
        ),
    }
    template = (files("distill.reporting") / "page.html").read_text(encoding="utf-8")
    return re.sub(r"@(\w+)@", lambda match: parts[match[1]], template)


def _figure_data(comparison: Comparison, content: dict[str, Any]) -> dict[str, Any]:
    """The JSON format's content, and what the figure lets choose."""
    rows = comparison.rows
    measured = dict.fromkeys(
        name for row in rows for name, value in row.values.items() if value is not None
    )
    scores = {name for row in rows for name in row.scores}
    for row, entry in zip(rows, content["rows"], strict=True):
        if row.gain and comparison.metric:
            said = gain_text(row, comparison.metric) + difference_unit(comparison.metric)
            entry["gain"]["text"] = f"{said}, p (Holm) {p_value(row.gain.p_holm)}"
    return content | {
        "axes": {
            "x": [name for name in COSTS if name in measured],
            "y": [name for name in measured if name in scores or name == "retention"],
        },
        "settings": list(dict.fromkeys(name for row in rows for name in row.settings)),
        "lower_is_better": sorted(LOWER_IS_BETTER),
    }


def _table(comparison: Comparison, columns: Sequence[Column]) -> str:
    """Every model; ``data-value`` is what a click on the head sorts by."""
    kind = [' class="text"' if column.is_text else "" for column in columns]
    heads = "".join(
        f'<th scope="col"{k}><button type="button">{escape(column.head or "front")}</button></th>'
        for column, k in zip(columns, kind, strict=True)
    )
    lines = []
    for number, row in enumerate(comparison.rows):
        cells = []
        for column, k in zip(columns, kind, strict=True):
            value = column.value(row)
            value = "" if value is None else int(value) if isinstance(value, bool) else value
            cells.append(
                f'<td{k} data-value="{escape(str(value))}">{escape(column.cell(row))}</td>'
            )
        style = f"{row.role} front" if row.on_front else row.role
        lines.append(f'<tr data-row="{number}" class="{escape(style)}">{"".join(cells)}</tr>')
    return f"<table><thead><tr>{heads}</tr></thead><tbody>\n{chr(10).join(lines)}\n</tbody></table>"


def _unfinished(comparison: Comparison) -> str:
    if not comparison.unfinished:
        return ""
    items = "".join(f"<li>{escape(str(run))}</li>" for run in comparison.unfinished)
    return f"<h2>Not in the comparison</h2>\n<ul>{items}</ul>"
