"""The drawn figures: one run's trade-off, and the front over many runs.

Matplotlib is imported inside the functions that draw, by its object-oriented interface: a table
needs none of it, and no state is shared with a program that draws for itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distill.reporting.conclusion import latency, main_metric, parameters, quality
from distill.reporting.files import replacing
from distill.reporting.text import label, label_with_unit, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox, Transform

# Okabe and Ito's palette: told apart with any colour vision, and each role has its own marker.
ROLES = {"teacher": ("#404040", "s"), "student": ("#0072B2", "o"), "control": ("#D55E00", "^")}
OTHERS = (("#009E73", "D"), ("#CC79A7", "P"), ("#56B4E9", "X"))
INK, FAINT = "#222222", "#e6e6e6"
DPI = 150

# Where a label may stand: its offset in points, and which of its corners stays at the point.
PLACES = (
    (7, 0, "left", "center"),
    (-7, 0, "right", "center"),
    (5, 5, "left", "bottom"),
    (5, -5, "left", "top"),
    (-5, 5, "right", "bottom"),
    (-5, -5, "right", "top"),
    (0, 8, "center", "bottom"),
    (0, -8, "center", "top"),
    (14, 12, "left", "bottom"),
    (14, -12, "left", "top"),
    (-14, 12, "right", "bottom"),
    (-14, -12, "right", "top"),
)


@dataclass(frozen=True)
class Point:
    """A marker with an error bar: a model's cost ``x`` and its quality ``y``."""

    x: float
    y: float
    low: float | None
    high: float | None
    role: str
    label: str = ""  # none is written where empty
    is_faint: bool = False

    @property
    def bottom(self) -> float:
        """The lower end of what is drawn."""
        return self.y if self.low is None else self.low

    @property
    def top(self) -> float:
        """The upper end of what is drawn."""
        return self.y if self.high is None else self.high


def role_styles(roles: Iterable[str]) -> dict[str, tuple[str, str]]:
    """(colour, marker) of each role; the three that always occur look the same in every figure."""
    others = [role for role in dict.fromkeys(roles) if role not in ROLES]
    return ROLES | {role: OTHERS[i % len(OTHERS)] for i, role in enumerate(others)}


def draw_tradeoff(report: dict[str, Any]) -> Figure:
    """One run: size (log axis) and latency against the main metric, 1200 x 600 pixels."""
    from matplotlib.figure import Figure

    metric = main_metric(report)
    figure = Figure(figsize=(1200 / DPI, 600 / DPI), dpi=DPI, layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    costs = {"parameters": parameters, "latency_ms": latency}
    drawn = []
    for ax, (name, cost) in zip(panels, costs.items(), strict=True):
        points = []
        for model in report["models"]:
            x, (y, low, high) = cost(model), quality(model, metric)
            if x is not None and x > 0 and y is not None:
                points.append(Point(x, y, low, high, model["role"], model["role"]))
        _draw(ax, points, log=name == "parameters")
        ax.set_xlabel(label_with_unit(name) + (" (log scale)" if name == "parameters" else ""))
        drawn.append((ax, points))
    panels[0].set_ylabel(f"{label(metric or 'quality')}, 95 % interval")
    figure.suptitle(report["run"]["name"], fontsize=10, color=INK)
    for ax, points in drawn:
        _write_labels(ax, points)
    return figure


def draw_front(
    points: Sequence[Point], front: Sequence[tuple[float, float]], x: str, y: str, title: str
) -> Figure:
    """Many runs: every point, and the front as a staircase, 1200 x 800 pixels.

    Args:
        points: The models; those with a label are labelled.
        front: (x, y) of the models on the front, sorted by x.
        x: The cost's name.
        y: The metric's name.
        title: What stands above the figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1200 / DPI, 800 / DPI), dpi=DPI, layout="constrained")
    ax = figure.subplots()
    _draw(ax, points, log=True)
    steps = []
    for (left, height), (right, _) in pairwise([*front, (ax.get_xlim()[1], None)]):
        steps += [(left, height), (right, height)]
    if steps:
        ax.plot(*zip(*steps, strict=True), color=INK, alpha=0.35, linewidth=1, zorder=1.5)
    ax.set_xlabel(f"{label_with_unit(x)} (log scale)")
    ax.set_ylabel(f"{label(y)}, 95 % interval")
    figure.suptitle(title, fontsize=9, color=INK)
    styles = role_styles(point.role for point in points)
    for role in dict.fromkeys(point.role for point in points):
        color, marker = styles[role]
        ax.plot([], [], linestyle="", color=color, marker=marker, markersize=5, label=role)
    if points:
        figure.legend(loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    _write_labels(ax, points, steps)
    return figure


def save_figure(figure: Figure, path: Path, kind: str = "png") -> None:
    """Write a figure as png or svg, so that no reader sees a part of it."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format=kind, metadata={"Date": None} if kind == "svg" else None)


def _draw(ax: Axes, points: Sequence[Point], log: bool) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color=FAINT, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=8, colors=INK)
    ax.xaxis.label.set(size=9, color=INK)
    ax.yaxis.label.set(size=9, color=INK)
    styles = role_styles(point.role for point in points)
    for point, place in zip(points, _side_by_side(ax, points), strict=True):
        color, marker = styles[point.role]
        if point.bottom < point.top:
            bar = [point.bottom, point.top]
            alpha = 0.2 if point.is_faint else 0.55
            ax.plot([point.x] * 2, bar, color=color, linewidth=1.2, alpha=alpha, transform=place)
        look = {"markeredgecolor": "white", "markeredgewidth": 0.6, "markersize": 6.5}
        alpha = 0.4 if point.is_faint else 1.0
        ax.plot(point.x, point.y, marker, color=color, alpha=alpha, transform=place, **look)
    if points:
        _scale(ax, points, log)


def _side_by_side(ax: Axes, points: Sequence[Point]) -> list[Transform]:
    """Where to draw each point: models of one size would hide each other's error bars."""
    from matplotlib.transforms import ScaledTranslation

    places = []
    for i, point in enumerate(points):
        same = [
            j
            for j, other in enumerate(points)
            if abs(math.log(other.x / point.x)) < 0.02
            and other.bottom <= point.top
            and point.bottom <= other.top
        ]
        shift = min(3.5, 14 / len(same)) * (same.index(i) - (len(same) - 1) / 2)
        places.append(ax.transData + ScaledTranslation(shift / 72, 0, ax.figure.dpi_scale_trans))
    return places


def _scale(ax: Axes, points: Sequence[Point], log: bool) -> None:
    """Limits with room for the labels, and a few ticks that can be read."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

    # A few very wide intervals, of two seeds for one, may leave the frame; the values may not.
    bottom, top = min(p.y for p in points), max(p.y for p in points)
    reach = max(
        0.6 * (top - bottom), 1.1 * float(np.median([p.top - p.bottom for p in points])) / 2
    )
    bottom = max(bottom - reach, min(p.bottom for p in points))
    top = min(top + reach, max(p.top for p in points))
    margin = 0.1 * (top - bottom) or 0.01
    ax.set_ylim(bottom - margin, top + margin)
    low, high = min(p.x for p in points), max(p.x for p in points)
    if log:
        pad = max(1.1, (high / low) ** 0.18)
        low, high = low / pad, high * pad
        ax.set_xscale("log")
        even = MaxNLocator(5) if high / low < 5 else LogLocator(subs=(1, 2, 5), numticks=8)
        ax.xaxis.set_major_locator(FixedLocator(even.tick_values(low, high)))
        ax.xaxis.set_minor_locator(NullLocator())
    else:
        low, high = 0, high * 1.2
    ax.set_xlim(low, high)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _tick(x)))


def _tick(x: float) -> str:
    """``short`` without trailing zeros: ``2.00`` -> ``2``, ``16.0 M`` -> ``16 M``."""
    number, *prefix = short(x).split()
    return " ".join([f"{float(number):g}", *prefix])


def _write_labels(
    ax: Axes, points: Sequence[Point], line: Sequence[tuple[float, float]] = ()
) -> None:
    """Put each label where it covers the least of markers, bars, ``line`` and earlier labels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.transforms import Bbox

    figure = ax.figure
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()  # settles the layout: boxes below are in its pixels
    pixel = figure.dpi / 72
    styles = role_styles(point.role for point in points)
    places = _side_by_side(ax, points)
    taken: list[Bbox] = []
    for point, place in zip(points, places, strict=True):
        center = place.transform((point.x, point.y))
        taken.append(Bbox.from_extents(*(center - 4 * pixel), *(center + 4 * pixel)))
        ends = place.transform([(point.x, point.bottom), (point.x, point.top)])
        taken.append(Bbox([ends[0] - (pixel, 0), ends[1] + (pixel, 0)]))
    for ends in pairwise(ax.transData.transform(line) if line else []):
        taken.append(Bbox([np.min(ends, axis=0) - pixel, np.max(ends, axis=0) + pixel]))
    for point, place in zip(points, places, strict=True):
        if not point.label:
            continue
        text = ax.annotate(
            point.label,
            (point.x, point.y),
            xycoords=place,
            xytext=(0, 0),
            textcoords="offset points",
            color=styles[point.role][0],
            fontsize=8,
            zorder=4,
        )
        text.set_in_layout(False)

        def put(candidate: tuple, text: Any = text) -> Bbox:
            dx, dy, horizontal, vertical = candidate
            text.set(position=(dx, dy), ha=horizontal, va=vertical)
            return text.get_window_extent(renderer)

        best = min(PLACES, key=lambda candidate: _covered(put(candidate), taken, ax.bbox))
        taken.append(put(best))


def _covered(box: Bbox, taken: Sequence[Bbox], frame: Bbox) -> float:
    """The area of ``box`` that is taken or outside the frame, in pixels."""
    from matplotlib.transforms import Bbox

    def shared(other: Bbox) -> float:
        both = Bbox.intersection(box, other)
        return 0.0 if both is None else both.width * both.height

    outside = box.width * box.height - shared(frame)
    return sum(map(shared, taken)) + 3 * outside
