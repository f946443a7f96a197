"""Sentences with a number or any number of labels, decided by the words in them."""

import random

from tests.factories import BAD, FILLER, GOOD


def _sentence(draw: random.Random, good: int, bad: int) -> str:
    words = draw.choices(FILLER, k=draw.randint(2, 8))
    words += draw.choices(GOOD, k=good) + draw.choices(BAD, k=bad)
    draw.shuffle(words)
    return " ".join(words)


def rated(count: int, seed: int) -> list[dict]:
    """From 0 to 4: 2, and 1 more for every good word, 1 less for every bad one."""
    draw, rows = random.Random(seed), []
    for _ in range(count):
        good, bad = draw.choice([(0, 0), (1, 0), (2, 0), (0, 1), (0, 2), (1, 1), (2, 1)])
        rows.append({"text": _sentence(draw, good, bad), "label": 2.0 + good - bad})
    return rows


def tagged(count: int, seed: int) -> list[dict]:
    """``praise`` and ``blame`` where there are words of it, and ``both``, which is rarer."""
    draw, rows = random.Random(seed), []
    for _ in range(count):
        good, bad = draw.choice([(0, 0), (1, 0), (1, 0), (0, 1), (0, 1), (1, 1)])
        labels = ["praise"] * good + ["blame"] * bad + ["both"] * (good and bad)
        rows.append({"text": _sentence(draw, good, bad), "label": labels})
    return rows
