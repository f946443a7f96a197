"""The drawn figures: the trade-off of one run, and the front over many runs.

Matplotlib is imported inside the functions that draw, because tables do not need it, and used by
its object-oriented interface, because that shares no state with a program that draws figures of
its own.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from distill.reporting.files import replacing
from distill.reporting.fonts import drawable, font_families, use_fonts
from distill.reporting.learning_curve import LearningCurve
from distill.reporting.quantities import quantity
from distill.reporting.schema import ModelReport, Report, Role
from distill.reporting.text import score, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox, Transform

# Okabe and Ito's palette: distinct with any color vision, and each role has its own marker.
ROLES: dict[str, tuple[str, str]] = {
    Role.TEACHER: ("#404040", "s"),
    Role.STUDENT: ("#0072B2", "o"),
    Role.CONTROL: ("#D55E00", "^"),
    Role.WORDS: ("#8C6BB1", "v"),
    Role.PIXELS: ("#8C6BB1", "v"),
    Role.MAJORITY: ("#8a8a8a", "_"),
}
OTHERS = (("#009E73", "D"), ("#CC79A7", "P"), ("#56B4E9", "X"))
INK, FAINT = "#222222", "#e6e6e6"
DPI = 150
TRADEOFF_COSTS = ("parameters", "latency_ms")  # of the panels of a run's figure
# On a linear axis from 0 models that differ by more are drawn on top of each other.
LINEAR_RATIO = 8

# Candidate places of a label: offset in points, and which of its corners is at the point.
Place = tuple[float, float, str, str]
PLACES: tuple[Place, ...] = (
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
    """A marker with an error bar: the cost ``x`` and the quality ``y`` of a model."""

    x: float
    y: float
    low: float | None
    high: float | None
    role: str
    label: str = ""
    is_faint: bool = False

    @property
    def bottom(self) -> float:
        """The lower end of the error bar."""
        return self.y if self.low is None else self.low

    @property
    def top(self) -> float:
        """The upper end of the error bar."""
        return self.y if self.high is None else self.high


def role_styles(roles: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return (color, marker) of each role; the usual three look the same in every figure."""
    others = [role for role in dict.fromkeys(roles) if role not in ROLES]
    return ROLES | {role: OTHERS[i % len(OTHERS)] for i, role in enumerate(others)}


def draw_tradeoff(report: Report) -> Figure:
    """Draw one run: size and latency against the main metric, 1200 x 600 pixels.

    The axis of the size is logarithmic, that of the latency where models differ much.
    """
    from matplotlib.figure import Figure

    metric = report.main_metric
    figure = Figure(figsize=(1200 / DPI, 600 / DPI), dpi=DPI, layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    drawn = []
    for ax, cost in zip(panels, map(quantity, TRADEOFF_COSTS), strict=True):
        points = []
        for model in report.measured:
            x, y = cost.read(model), model.metric(metric)
            if x is not None and x > 0 and y.value is not None:
                points.append(Point(x, y.value, y.low, y.high, model.role, model.role))
        log = cost.kind == "size" or _ratio(points) > LINEAR_RATIO
        _draw(ax, points, log)
        _draw_level(ax, report.model(Role.MAJORITY), metric)
        ax.set_xlabel(cost.axis_label + (" (log scale)" if log else ""))
        drawn.append((ax, points))
    label = quantity(metric).label if metric else "quality"
    panels[0].set_ylabel(f"{label}, 95 % interval")
    figure.suptitle(report.run.name, fontsize=10, color=INK)
    for ax, points in drawn:
        _write_labels(ax, points)
    return figure


def draw_front(
    points: Sequence[Point],
    front: Sequence[tuple[float, float]],
    x: str,
    y: str | None,
    title: str,
) -> Figure:
    """Draw many runs: every point, and the front as a staircase, 1200 x 800 pixels.

    Args:
        points: The models; labels are written where they are not empty.
        front: (x, y) of the models on the front, sorted by x.
        x: Name of the cost.
        y: Name of the metric.
        title: Title of the figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1200 / DPI, 800 / DPI), dpi=DPI, layout="constrained")
    ax = figure.subplots()
    _draw(ax, points, log=True)
    steps: list[tuple[float, float]] = []
    for (left, height), (right, _) in pairwise([*front, (ax.get_xlim()[1], math.nan)]):
        steps += [(left, height), (right, height)]
    if steps:
        ax.plot(*zip(*steps, strict=True), color=INK, alpha=0.35, linewidth=1, zorder=1.5)
    ax.set_xlabel(f"{quantity(x).axis_label} (log scale)")
    ax.set_ylabel(f"{quantity(y).label if y else 'quality'}, 95 % interval")
    figure.suptitle(title, fontsize=9, color=INK)
    styles = role_styles(point.role for point in points)
    for role in dict.fromkeys(point.role for point in points):
        color, marker = styles[role]
        ax.plot([], [], linestyle="", color=color, marker=marker, markersize=5, label=role)
    if points:
        figure.legend(loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    _write_labels(ax, points, steps)
    return figure


def draw_learning_curves(
    curves: Sequence[LearningCurve], teachers: Sequence[float], y: str | None, title: str
) -> Figure:
    """Draw quality against the number of unlabeled texts, 1200 x 800 pixels.

    The axis is linear up to the smallest amount above 0, and logarithmic from there.

    Args:
        curves: the curves of students and controls.
        teachers: values of the teachers, drawn as horizontal lines.
        y: name of the metric.
        title: title of the figure.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    figure = Figure(figsize=(1200 / DPI, 800 / DPI), dpi=DPI, layout="constrained")
    ax = figure.subplots()
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color=FAINT, linewidth=0.6)
    styles = role_styles(curve.role for curve in curves)
    amounts = sorted({point.amount for curve in curves for point in curve.points})
    for number, curve in enumerate(curves):
        color, marker = styles[curve.role]
        x = [point.amount for point in curve.points]
        line = ("-", "--", ":", "-.")[number % 4] if len(curves) > 2 else "-"
        label = f"{curve.role}, {curve.label}" if curve.label else curve.role
        ax.plot(x, [point.value for point in curve.points], line, color=color, marker=marker,
                markersize=5, linewidth=1.2, label=label)  # fmt: skip
        for point in curve.points:
            if point.low is not None and point.high is not None:
                ax.plot([point.amount] * 2, [point.low, point.high], color=color, alpha=0.4,
                        linewidth=1.2)  # fmt: skip
    for number, value in enumerate(teachers):
        color, _ = styles[Role.TEACHER]
        ax.axhline(value, color=color, linewidth=1, linestyle="--",
                   label="" if number else "teacher")  # fmt: skip
    ax.set_xscale("symlog", linthresh=max(1, next((a for a in amounts if a > 0), 1)))
    ax.set_xticks(amounts)
    ax.minorticks_off()
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.tick_params(labelsize=8, colors=INK)
    ax.set_xlabel("unlabeled texts", size=9, color=INK)
    ax.set_ylabel(f"{quantity(y).label if y else 'quality'}, 95 % interval", size=9, color=INK)
    figure.suptitle(title, fontsize=9, color=INK)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def save_figure(figure: Figure, path: Path, kind: str = "png") -> None:
    """Write a figure as png or svg; a reader never sees a part of it."""
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
        look: dict[str, Any] = {
            "markeredgecolor": "white",
            "markeredgewidth": 0.6,
            "markersize": 6.5,
        }
        alpha = 0.4 if point.is_faint else 1.0
        ax.plot(point.x, point.y, marker, color=color, alpha=alpha, transform=place, **look)
    if points:
        _scale(ax, points, log)


def _draw_level(ax: Axes, baseline: ModelReport | None, metric: str | None) -> None:
    """Draw the quality of a baseline that costs nothing as a line; below the frame, name it."""
    value = baseline.metric(metric).value if baseline else None
    if baseline is None or value is None:
        return
    color, _ = ROLES[Role.MAJORITY]
    bottom, top = ax.get_ylim()
    is_inside = bottom <= value <= top
    if is_inside:
        ax.axhline(value, color=color, linewidth=1, linestyle="--", zorder=1.2)
    edge = "" if is_inside else ", below" if value < bottom else ", above"
    ax.annotate(
        f"{baseline.role} {score(value)}{edge}",
        (1, min(max(value, bottom), top)),
        xycoords=ax.get_yaxis_transform(),
        xytext=(-3, 2 if value < top else -8),
        textcoords="offset points",
        ha="right",
        color=color,
        fontsize=7,
    )


def _side_by_side(ax: Axes, points: Sequence[Point]) -> list[Transform]:
    """Return where to draw each point: models of equal cost would hide each other's error bars."""
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
    """Set limits with room for the labels, and a few readable ticks."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

    # A few very wide intervals, as of two seeds, may leave the frame; the values may not.
    bottom, top = min(p.y for p in points), max(p.y for p in points)
    reach = max(
        0.6 * (top - bottom), 1.1 * float(statistics.median(p.top - p.bottom for p in points)) / 2
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
        decades = math.log10(high / low)
        subs = (1, 2, 5) if decades < 2 else (1, 3) if decades < 3.5 else (1,)
        even = MaxNLocator(5) if high / low < 5 else LogLocator(subs=subs, numticks=8)
        ax.xaxis.set_major_locator(FixedLocator(even.tick_values(low, high)))
        ax.xaxis.set_minor_locator(NullLocator())
    else:
        low, high = 0, high * 1.2
    ax.set_xlim(low, high)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _tick(x)))


def _ratio(points: Sequence[Point]) -> float:
    """Return how many times the smallest cost the largest is."""
    return max(p.x for p in points) / min(p.x for p in points) if points else 1.0


def _tick(x: float) -> str:
    """Write a tick without trailing zeros: ``2.00`` -> ``2``, ``16.0 M`` -> ``16 M``."""
    number, *prefix = short(x).split()
    return " ".join([f"{float(number):g}", *prefix])


def _write_labels(
    ax: Axes, points: Sequence[Point], line: Sequence[tuple[float, float]] = ()
) -> None:
    """Place each label where it covers the least of markers, bars, ``line`` and earlier labels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

    figure = ax.figure
    assert isinstance(figure, Figure)
    use_fonts(figure)
    renderer = cast(Any, FigureCanvasAgg(figure)).get_renderer()
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
    for (x0, y0), (x1, y1) in pairwise(ax.transData.transform(line) if line else []):
        low, high = (min(x0, x1), min(y0, y1)), (max(x0, x1), max(y0, y1))
        taken.append(
            Bbox.from_extents(low[0] - pixel, low[1] - pixel, high[0] + pixel, high[1] + pixel)
        )
    for point, place in zip(points, places, strict=True):
        if not point.label:
            continue
        text = ax.annotate(
            drawable(point.label),
            (point.x, point.y),
            xycoords=place,
            xytext=(0, 0),
            textcoords="offset points",
            color=styles[point.role][0],
            fontsize=8,
            zorder=4,
        )
        if not text.get_text().isascii():
            text.set_fontfamily(font_families())
        text.set_in_layout(False)
        text.set_parse_math(False)

        def put(candidate: Place, text: Any = text) -> Any:
            dx, dy, horizontal, vertical = candidate
            text.set(position=(dx, dy), ha=horizontal, va=vertical)
            return text.get_window_extent(renderer)

        best = min(PLACES, key=lambda candidate: _covered(put(candidate), taken, ax.bbox))
        taken.append(put(best))


def _covered(box: Bbox, taken: Sequence[Bbox], frame: Bbox) -> float:
    """Return the area of ``box`` that is taken or outside the frame, in square pixels."""
    from matplotlib.transforms import Bbox

    def shared(other: Bbox) -> float:
        both = Bbox.intersection(box, other)
        return 0.0 if both is None else both.width * both.height

    outside = box.width * box.height - shared(frame)
    return sum(map(shared, taken)) + 3 * outside
