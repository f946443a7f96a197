"""The overview of one run, as text and as Markdown: a table of its models and the conclusion."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING

from distill.reporting import text
from distill.reporting.conclusion import conclude
from distill.reporting.quantities import Quantity, of_kinds, quantity

if TYPE_CHECKING:
    from distill.reporting.schema import MetricValue, ModelReport, Report

WIDTH = 100


def overview(report: Report) -> str:
    """Return a table of models and baselines, and the conclusion; at most 100 columns."""
    metric = report.main_metric

    def cells_of(measured: Quantity) -> Callable[[ModelReport], str]:
        return lambda model: measured.format(measured.read(model))

    columns: dict[str, Callable[[ModelReport], str]] = {"": lambda model: model.role}
    for measured in of_kinds("size", "speed"):
        if measured.column:
            columns[measured.column] = cells_of(measured)
    columns[quantity(metric).label if metric else "quality"] = lambda model: _interval(
        model.metric(metric)
    )
    for measured in of_kinds("quality", "calibration", "fidelity"):
        if measured.column:
            columns[measured.column] = cells_of(measured)
    cells = {name: [cell(model) for model in report.measured] for name, cell in columns.items()}
    shown = [name for name, column in cells.items() if set(column) != {text.ABSENT}]
    table = text.plain_table(shown, list(zip(*(cells[name] for name in shown), strict=True)))
    name, conclusion = text.one_line(report.run.name), text.one_line(conclude(report))
    return "\n".join([name, *table, "", *textwrap.wrap(conclusion, WIDTH)])


def markdown_overview(report: Report) -> str:
    """Return name, table and conclusion as Markdown, as a notebook shows a report."""
    name = text.escape_markdown(report.run.name)
    return "\n\n".join([f"**{name}**", *table_and_conclusion(report)])


def table_and_conclusion(report: Report) -> tuple[str, str]:
    """Return the Markdown table, with models and baselines as columns, and the conclusion.

    Rows of quantities that were measured of no model are left out.
    """
    models, first = report.measured, report.main_metric
    metrics = list(dict.fromkeys(name for model in models for name in model.quality))
    metrics.sort(key=lambda name: name != first)
    rows = [
        ["model", *(text.escape_markdown(model.name or text.ABSENT) for model in models)],
        *_rows(report, of_kinds("size", "speed")),
        *(
            [quantity(name).label, *(_interval(model.metric(name)) for model in models)]
            for name in metrics
        ),
        *_rows(report, of_kinds("quality", "fitted", "calibration", "fidelity")),
    ]
    rows = [row for row in rows if set(row[1:]) != {text.ABSENT}]
    roles = [text.escape_markdown(model.role) for model in models]
    table = text.markdown_table(["", *roles], rows)
    return "\n".join(table), text.escape_markdown(conclude(report))


def _rows(report: Report, quantities: list[Quantity]) -> list[list[str]]:
    rows = []
    for measured in quantities:
        if heading := measured.row_heading(report.measured):
            rows.append([heading, *(measured.row_cell(model) for model in report.measured)])
    return rows


def _interval(metric: MetricValue) -> str:
    return text.with_interval(metric.value, metric.low, metric.high)
