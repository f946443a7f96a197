import numpy as np
import pytest

from distill.reporting.front import hypervolume, pareto_front


def dominates(a, b, lower_y):
    better_y = a[1] <= b[1] if lower_y else a[1] >= b[1]
    return a != b and a[0] <= b[0] and better_y


@pytest.mark.parametrize("lower_y", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_front_is_what_no_other_point_dominates(seed, lower_y):
    random = np.random.default_rng(seed)
    # Whole numbers, so that ties in one and in both coordinates occur.
    points = [tuple(point) for point in random.integers(0, 8, (25, 2)).tolist()]
    expected = {
        i
        for i, point in enumerate(points)
        if not any(dominates(other, point, lower_y) for other in points)
    }
    front = pareto_front(points, lower_y)
    assert set(front) == expected
    assert len(front) == len(expected)
    assert [points[i][0] for i in front] == sorted(points[i][0] for i in front)


def test_front_of_nothing_and_of_one():
    assert pareto_front([]) == []
    assert pareto_front([(3.0, 0.5)]) == [0]


@pytest.mark.parametrize("lower_y", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_hypervolume_against_counting_cells(seed, lower_y):
    """Points on a grid dominate whole cells: count them."""
    random = np.random.default_rng(seed)
    side, reference_x = 12, 10
    floor, ideal = (10, 0) if lower_y else (2, side)
    points = [tuple(point) for point in random.integers(0, side, (6, 2)).tolist()]
    cells = 0
    for cell_x in range(reference_x):
        for cell_y in range(min(floor, ideal), max(floor, ideal)):
            cells += any(
                x <= cell_x and (y <= cell_y if lower_y else y >= cell_y + 1) for x, y in points
            )
    expected = cells / (reference_x * abs(ideal - floor))
    assert hypervolume(points, (reference_x, floor), ideal, lower_y) == pytest.approx(expected)


def test_hypervolume_limits():
    assert hypervolume([(0.0, 1.0)], (5.0, 0.0), ideal=1.0) == 1.0
    assert hypervolume([(5.0, 1.0), (9.0, 1.0), (1.0, 0.0)], (5.0, 0.0), ideal=1.0) == 0.0
    assert hypervolume([], (5.0, 0.0), ideal=1.0) == 0.0


def test_a_dominated_point_adds_nothing():
    front = [(1.0, 0.5), (3.0, 0.8)]
    box = {"reference": (4.0, 0.2), "ideal": 1.0}
    assert hypervolume([*front, (3.5, 0.7)], **box) == hypervolume(front, **box)
