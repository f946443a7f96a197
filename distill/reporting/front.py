"""Pareto front of cost against quality, and the area that it dominates."""

from __future__ import annotations

from collections.abc import Sequence

Point = tuple[float, float]


def pareto_front(points: Sequence[Point], lower_y: bool = False) -> list[int]:
    """Return the indices of the points that no other point dominates, sorted by x.

    A point dominates another when it is no worse in both coordinates and better in one. Equal
    points do not dominate each other: all of them are on the front.

    Args:
        points: (x, y) each; x is better when smaller.
        lower_y: Whether y is better when smaller as well; otherwise when larger.
    """
    sign = 1 if lower_y else -1
    order = sorted(range(len(points)), key=lambda i: (points[i][0], sign * points[i][1]))
    front: list[int] = []
    for i in order:
        best = points[front[-1]] if front else None
        if best is None or sign * points[i][1] < sign * best[1] or points[i] == best:
            front.append(i)
    return front


def hypervolume(
    points: Sequence[Point], reference: Point, ideal: float, lower_y: bool = False
) -> float:
    """Return the fraction of the box between reference and ideal that the points dominate.

    The hypervolume indicator (Zitzler & Thiele 1998, "size of the space covered") for two
    objectives, divided by the area of the box from x = 0 to the reference's x and from the
    reference's y to ``ideal``. 0: no point is better than the reference in both coordinates; 1: a
    point with the ideal quality costs nothing. Points beyond the reference add nothing. Two
    hypervolumes can be compared only when their references and ideals are the same.

    Args:
        points: (x, y) each; x is better when smaller, and not negative.
        reference: (x, y) of the corner of the box; x > 0.
        ideal: The best possible y; differs from the reference's.
        lower_y: Whether y is better when smaller as well.
    """
    sign = 1 if lower_y else -1
    right, floor = reference
    area = 0.0
    for i in reversed(pareto_front(points, lower_y)):
        x, y = points[i]
        height = sign * (floor - y)
        if x < right and height > 0:
            # From the costliest point on: the strip between this point and the one to its right.
            area += (right - x) * height
            right = x
    return area / (reference[0] * abs(ideal - floor))
