"""A comparison in every format: terminal table, Markdown, CSV, JSON, HTML, PNG and SVG."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

from distill.reporting import text
from distill.reporting.columns import fit, table_columns
from distill.reporting.compare import Comparison
from distill.reporting.files import write_text
from distill.reporting.rows import Row
from distill.reporting.summary import footnotes, front_title, summarise

SUFFIXES: Mapping[str, str] = MappingProxyType(
    {
        ".txt": "table",
        ".md": "markdown",
        ".csv": "csv",
        ".json": "json",
        ".html": "html",
        ".png": "png",
        ".svg": "svg",
    }
)
FIGURES = ("png", "svg")
WIDTH = 100  # of running text


def terminal_width() -> int | None:
    """How wide the terminal is; None where the output goes somewhere else."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def render(comparison: Comparison, kind: str, width: int | None = None) -> str:
    """The comparison as text.

    Args:
        comparison: What is shown.
        kind: ``table``, ``markdown``, ``csv``, ``json`` or ``html``.
        width: Columns that the terminal has; the table leaves out what it has no room for and
            says so. None: as wide as need be.
    """
    if kind == "table":
        return _table(comparison, width)
    if kind == "markdown":
        return _markdown(comparison)
    if kind == "csv":
        return _csv(comparison)
    content = as_dict(comparison)
    if kind == "json":
        return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    assert kind == "html", kind
    from distill.reporting.html import page

    return page(comparison, content)


def save(comparison: Comparison, path: Path, kind: str | None = None) -> None:
    """Write the comparison in the format that the suffix stands for, or in ``kind``."""
    kind = kind or SUFFIXES[path.suffix]
    if kind in FIGURES:
        from distill.reporting.figure import save_figure

        save_figure(_figure(comparison), path, kind)
    else:
        write_text(path, render(comparison, kind))


def as_dict(comparison: Comparison) -> dict[str, Any]:
    """The JSON format: everything, with full precision."""
    return {
        "schema": 1,
        "task": comparison.task,
        "data": comparison.data,
        "metric": comparison.metric,
        "x": comparison.x,
        "y": comparison.y,
        "rows": [
            {
                "name": row.name,
                "title": row.title,
                "role": row.role,
                "settings": row.settings,
                "seeds": [run["seed"] for run in row.runs],
                "values": row.values,
                "intervals": row.intervals,
                "interval_over": row.interval_over,
                "gain": asdict(row.gain) if row.gain else None,
                "on_front": row.on_front,
                "runs": row.runs,
            }
            for row in comparison.rows
        ],
        "hypervolume": {
            "value": comparison.hypervolume,
            "reference": comparison.reference,
            "ideal": comparison.ideal,
        },
        "comparisons": comparison.comparisons,
        "summary": summarise(comparison),
        "notes": footnotes(comparison),
        "answer": None
        if comparison.answer is None
        else {
            "within": comparison.answer.within,
            "title": comparison.answer.row.title if comparison.answer.row else None,
            "text": comparison.answer.text,
        },
        "unfinished": [asdict(run) for run in comparison.unfinished],
    }


def _shown(comparison: Comparison) -> list[Row]:
    """A control is in its student's gain: the tables that people read have no row for it."""
    return [row for row in comparison.rows if row.role != "control"]


def _table(comparison: Comparison, width: int | None) -> str:
    rows = _shown(comparison)
    columns = table_columns(comparison)
    shown = fit(columns, rows, width)
    heads = [column.head for column in shown]
    left = sum(column.is_text or not column.head for column in shown)
    lines = text.plain_table(heads, [[c.cell(row) for c in shown] for row in rows], left)
    paragraphs = [*summarise(comparison), " ".join(["* On the front.", *footnotes(comparison)])]
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


def _markdown(comparison: Comparison) -> str:
    columns = table_columns(comparison)
    rows = [[column.cell(row) for column in columns] for row in _shown(comparison)]
    left = sum(column.is_text or not column.head for column in columns)
    data = comparison.data
    sections = [
        f"# {data['name']}, {data['evaluated_on']} set: comparison",
        *([f"**{comparison.answer.text}**"] if comparison.answer else []),
        "\n".join(text.markdown_table([column.head for column in columns], rows, left)),
        "\n\n".join(summarise(comparison)),
        " ".join(["\\* On the front.", *footnotes(comparison)]),
    ]
    if comparison.unfinished:
        sections.append("## Not in the comparison")
        sections.append("\n".join(f"- {run}" for run in comparison.unfinished))
    return "\n\n".join(sections) + "\n"


def _csv(comparison: Comparison) -> str:
    """One line a model, one for each run that is not among them; empty where there is nothing."""
    lines = [_csv_line(row) for row in comparison.rows]
    lines += [
        {"status": run.state, "directories": run.directory, "reason": run.reason}
        for run in comparison.unfinished
    ]
    names = dict.fromkeys(["status", *(name for line in lines for name in line)])
    out = io.StringIO()
    writer = csv.DictWriter(out, list(names), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def _csv_line(row: Row) -> dict[str, Any]:
    line: dict[str, Any] = {
        "status": "finished",
        "name": row.name,
        "role": row.role,
        **{f"settings.{name}": value for name, value in row.settings.items()},
        "seeds": " ".join(str(run["seed"]) for run in row.runs),
        "on_front": row.on_front,
    }
    for name, value in row.values.items():
        line[name] = value
        if name in row.intervals:
            line[f"{name}_low"], line[f"{name}_high"] = row.intervals[name]
    line["interval_over"] = row.interval_over
    if row.gain:
        line |= {
            "gain": row.gain.value,
            "gain_low": row.gain.low,
            "gain_high": row.gain.high,
            "gain_p_value": row.gain.p_value,
            "gain_p_holm": row.gain.p_holm,
        }
    line["directories"] = " ".join(run["directory"] for run in row.runs)
    return line


def _figure(comparison: Comparison) -> Any:
    from distill.reporting.figure import Point, draw_front

    x, y = comparison.x, comparison.y
    points = []
    for row in _shown(comparison):
        value, low, high = row.interval(y)
        if value is None or not row.values.get(x):
            continue
        name = row.name if row.role == "teacher" else row.title if row.on_front else ""
        points.append(Point(row.values[x], value, low, high, row.role, name, is_faint=not name))
    front = [(row.values[x], row.values[y]) for row in comparison.front]
    return draw_front(points, front, x, y or "quality", front_title(comparison))
