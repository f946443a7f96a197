"""The front of the comparison as a drawn figure, PNG or SVG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from distill.reporting.comparison_summary import front_title
from distill.reporting.figure import Point, draw_front, save_figure
from distill.reporting.formats.base import Format, register_format

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from distill.reporting.compare import RunComparison


@register_format
class Png(Format):
    """The figure as a PNG of 1200 x 800 pixels."""

    name = "png"
    suffix = ".png"

    def save(self, comparison: RunComparison, path: Path) -> None:
        """Draw the figure into a file."""
        save_figure(_figure(comparison), path, "png")


@register_format
class Svg(Format):
    """The figure as vector graphics."""

    name = "svg"
    suffix = ".svg"

    def save(self, comparison: RunComparison, path: Path) -> None:
        """Draw the figure into a file."""
        save_figure(_figure(comparison), path, "svg")


def _figure(comparison: RunComparison) -> Figure:
    points, front = [], []
    for row in comparison.rows:
        cost, (value, low, high) = row.value(comparison.x), row.interval(comparison.y)
        # A control is part of its student's gain and has no point.
        if value is None or not cost or row.is_control:
            continue
        label = row.short_title if row.is_reference or row.on_front else ""
        points.append(Point(cost, value, low, high, row.role, label, is_faint=not label))
        if row.on_front:
            front.append((cost, value))
    return draw_front(points, front, comparison.x, comparison.y, front_title(comparison))
