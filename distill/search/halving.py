"""Successive halving (Jamieson and Talwalkar 2016): the best candidates are trained longer.

Pure functions of results; training is :mod:`distill.search.candidates`'s.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Standing:
    """What is known of a candidate at the end of a rung.

    Attributes:
        name: Name of the candidate.
        quality: Best value of the metric on validation so far, in the direction "higher is better".
        cost: Its cost, lower is better.
    """

    name: str
    quality: float
    cost: float


def rung_epochs(max_epochs: int, rungs: int, reduction: int) -> list[int]:
    """Return the epochs after which candidates are compared, the last one ``max_epochs``.

    >>> rung_epochs(9, 3, 3)
    [1, 3, 9]
    >>> rung_epochs(2, 3, 3)
    [1, 1, 2]
    """
    return [
        max(1, round(max_epochs / reduction ** (rungs - 1 - number))) for number in range(rungs)
    ]


def number_of_rungs(candidates: int, reduction: int, finalists: int) -> int:
    """Return how many rungs it takes to come from all candidates to the finalists.

    >>> number_of_rungs(9, 3, 2), number_of_rungs(2, 3, 2)
    (3, 1)
    """
    rungs = 1
    while candidates > finalists:
        candidates = max(finalists, math.ceil(candidates / reduction))
        rungs += 1
    return rungs


def survivors(
    standings: Sequence[Standing], reduction: int, finalists: int, enough: float | None = None
) -> list[Standing]:
    """Return the candidates that are trained on, the best first.

    Args:
        standings: Of all candidates of this rung.
        reduction: One of so many survives.
        finalists: As many always survive.
        enough: Quality from which on the cheaper candidate is the better one; ``None``: more
            quality is always better.
    """
    count = max(finalists, math.ceil(len(standings) / reduction))
    return ranked(standings, enough)[:count]


def ranked(standings: Sequence[Standing], enough: float | None = None) -> list[Standing]:
    """Return candidates, the best first: by quality, by cost among those that have enough of it."""

    def key(standing: Standing) -> tuple[float, float]:
        if enough is not None and standing.quality >= enough:
            return -enough, standing.cost
        return -standing.quality, standing.cost

    return sorted(standings, key=key)


def front(standings: Sequence[Standing]) -> list[Standing]:
    """Return the candidates that no other one equals or beats in both, the cheapest first."""
    members: list[Standing] = []
    for standing in sorted(standings, key=lambda s: (s.cost, -s.quality)):
        if not members or standing.quality > members[-1].quality:
            members.append(standing)
    return members
