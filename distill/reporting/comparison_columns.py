"""The columns of the comparison's table, for every format that people read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distill.reporting import text
from distill.reporting.quantities import Quantity, of_kinds, quantity

if TYPE_CHECKING:
    from distill.reporting.compare import RunComparison
    from distill.reporting.comparison_rows import Row


@dataclass(frozen=True)
class Column:
    """A column of the comparison's table.

    Attributes:
        head: Heading.
        cell: Text of a row's cell.
        value: What the table is sorted by.
        drop_order: Where the terminal is narrow, the highest is left out first; 0: never.
        is_text: Whether cells are left-aligned.
    """

    head: str
    cell: Callable[[Row], str]
    value: Callable[[Row], float | str | None]
    drop_order: int = 0
    is_text: bool = False


def table_columns(comparison: RunComparison) -> list[Column]:
    """Return all columns that have something to show, in reading order."""
    y = comparison.y
    settings = dict.fromkeys(name for row in comparison.rows for name in row.settings)

    def measured(quantities: Sequence[Quantity]) -> list[Column]:
        return [
            _measured(declared, never_dropped=declared.name == comparison.x)
            for declared in quantities
            if declared.column and declared.drop_order is not None
        ]

    columns = [
        Column("", lambda row: "*" if row.on_front else "", lambda row: not row.on_front),
        Column("run", lambda row: row.title, lambda row: row.title, is_text=True),
        *(
            Column(name, _setting(name), _setting(name), drop_order=4, is_text=True)
            for name in settings
        ),
        Column("seeds", _seeds, lambda row: None if row.is_reference else len(row.runs)),
        *measured(of_kinds("size", "speed")),
    ]
    if y is not None:
        columns += [
            Column(
                quantity(y).label,
                lambda row: text.with_interval(*row.interval(y)),
                lambda row: row.value(y),
            ),
            *measured(of_kinds("comparison")),
        ]
    unit = quantity(comparison.metric).difference_unit
    columns += [
        *measured(of_kinds("quality", "calibration", "fidelity")),
        Column(
            f"gain{',' if unit else ''}{unit}",
            lambda row: gain_text(row, comparison.metric),
            lambda row: row.gain.value if row.gain else None,
        ),
        Column("p (Holm)", lambda row: text.p_value(_p_holm(row)), _p_holm),
    ]
    return [
        column
        for column in columns
        if not column.head or {column.cell(row) for row in comparison.rows} - {text.ABSENT}
    ]


def fit(columns: Sequence[Column], rows: Sequence[Row], width: int | None) -> list[Column]:
    """Return as many columns as fit into ``width``; all where it is None."""
    shown = list(columns)
    while width is not None and _width(shown, rows) > width:
        least_important = max(shown, key=lambda column: column.drop_order)
        if not least_important.drop_order:
            break
        shown.remove(least_important)
    return shown


def gain_text(row: Row, metric: str | None) -> str:
    """Write the gain over the control with its interval, without unit."""
    if row.gain is None or metric is None:
        return text.ABSENT
    return quantity(metric).difference(row.gain.value, row.gain.low, row.gain.high)


def _measured(declared: Quantity, never_dropped: bool) -> Column:
    return Column(
        declared.column or "",
        lambda row: declared.format(row.value(declared.name)),
        lambda row: row.value(declared.name),
        0 if never_dropped else declared.drop_order or 0,
    )


def _width(columns: Sequence[Column], rows: Sequence[Row]) -> int:
    return sum(
        2 + max(len(column.head), *(len(column.cell(row)) for row in rows)) for column in columns
    )


def _setting(name: str) -> Callable[[Row], str]:
    return lambda row: row.settings.get(name, text.ABSENT)


def _seeds(row: Row) -> str:
    return text.ABSENT if row.is_reference else str(len(row.runs))


def _p_holm(row: Row) -> float | None:
    return row.gain.p_holm if row.gain else None
