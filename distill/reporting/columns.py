"""The columns of the comparison's table, for every format that people read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from distill.reporting import text
from distill.reporting.compare import Comparison
from distill.reporting.rows import Row


@dataclass(frozen=True)
class Column:
    """A column: its head, each row's cell, what it is sorted by, and how readily it is dropped."""

    head: str
    cell: Callable[[Row], str]
    value: Callable[[Row], float | str | None]
    spare: int = 0  # 0: always shown; otherwise the highest goes first where width is short
    is_text: bool = False


def table_columns(comparison: Comparison) -> list[Column]:
    """All columns that have something to show, in reading order."""
    x, y = comparison.x, comparison.y
    settings = dict.fromkeys(name for row in comparison.rows for name in row.settings)

    def measure(head: str, name: str, write: Callable[[float | None], str], spare: int) -> Column:
        return Column(
            head,
            lambda row: write(row.values.get(name)),
            lambda row: row.values.get(name),
            0 if name == x else spare,
        )

    def gain(name: str) -> Callable[[Row], float | None]:
        return lambda row: getattr(row.gain, name, None)

    columns = [
        Column("", lambda row: "*" if row.on_front else "", lambda row: not row.on_front),
        Column("run", lambda row: row.title, lambda row: row.title, is_text=True),
        *(Column(name, _setting(name), _setting(name), spare=4, is_text=True) for name in settings),
        Column("seeds", _seeds, lambda row: None if row.role == "teacher" else len(row.runs)),
        measure("parameters", "parameters", text.short, 1),
        measure("MB", "bytes", text.megabytes, 6),
        measure("MACs", "multiply_accumulates", text.short, 7),
        measure("ms", "latency_ms", text.significant, 2),
    ]
    if y is not None:
        columns += [
            Column(
                text.label(y),
                lambda row: text.with_interval(*row.interval(y)),
                lambda row: row.values.get(y),
            ),
            measure("retention", "retention", _percent, 3),
        ]
    columns += [
        measure("ECE", "expected_calibration_error", text.score, 8),
        measure("agreement", "agreement", text.score, 9),
        Column(
            f"gain{', points' if text.difference_unit(comparison.metric or '') else ''}",
            lambda row: gain_text(row, comparison.metric),
            gain("value"),
        ),
        Column("p (Holm)", lambda row: text.p_value(gain("p_holm")(row)), gain("p_holm")),
    ]
    return [
        column
        for column in columns
        if not column.head or {column.cell(row) for row in comparison.rows} - {text.ABSENT}
    ]


def fit(columns: Sequence[Column], rows: Sequence[Row], width: int | None) -> list[Column]:
    """As many columns as ``width`` has room for; all where it is None."""
    shown = list(columns)
    while width is not None and _width(shown, rows) > width:
        least = max(shown, key=lambda column: column.spare)
        if not least.spare:
            break
        shown.remove(least)
    return shown


def _width(columns: Sequence[Column], rows: Sequence[Row]) -> int:
    return sum(
        2 + max(len(column.head), *(len(column.cell(row)) for row in rows)) for column in columns
    )


def _setting(name: str) -> Callable[[Row], str]:
    return lambda row: row.settings.get(name, text.ABSENT)


def _seeds(row: Row) -> str:
    return text.ABSENT if row.role == "teacher" else str(len(row.runs))


def _percent(ratio: float | None) -> str:
    return text.ABSENT if ratio is None else text.percent(ratio)


def gain_text(row: Row, metric: str | None) -> str:
    """The gain over the control with its interval, without unit."""
    if row.gain is None or metric is None:
        return text.ABSENT
    return text.difference_with_interval(row.gain.value, row.gain.low, row.gain.high, metric)
