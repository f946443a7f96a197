"""Extractive question answering: answer texts against gold answers, and the best span.

The rules are those of SQuAD's evaluation scripts, v1.1 (Rajpurkar et al. 2016, section 6.1) and v2
(Rajpurkar, Jia and Liang 2018).
"""

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from distill.core.jagged import JaggedArray
from distill.metrics.base import Array, CountMetric, Floats

WINDOWS = 1024
"""Number of windows whose spans are searched at once, in some tens of MB."""

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@CountMetric
def exact_match(scores: Array, counts: Floats) -> Floats:
    """Mean exact match over the questions.

    Called as ``exact_match(scores) -> float`` with one row of :func:`answer_scores` per question.

    >>> exact_match([[1.0, 1.0], [0.0, 0.5]])
    0.5
    """
    mean: Floats = counts @ scores[:, 0] / counts.sum(axis=1)
    return mean


@CountMetric
def f1(scores: Array, counts: Floats) -> Floats:
    """Mean F1 over the questions.

    Called as ``f1(scores) -> float`` with one row of :func:`answer_scores` per question.

    >>> f1([[1.0, 1.0], [0.0, 0.5]])
    0.75
    """
    mean: Floats = counts @ scores[:, 1] / counts.sum(axis=1)
    return mean


def normalize_answer(text: str) -> str:
    """Convert to lower case and remove punctuation, articles and superfluous white space.

    >>> normalize_answer("The  U.S. Army's")
    'us armys'
    """
    text = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", text).split())


def answer_scores(answer: str, golds: Sequence[str]) -> tuple[float, float]:
    """Compute exact match and F1 over the words, each the maximum over the gold answers.

    Args:
        answer: the predicted text; empty for no answer.
        golds: one or more gold answers; ``[""]`` for a question without an answer. F1 then equals
            the exact match, as it does if a normalized answer has no words.

    Returns:
        Exact match, 0 or 1, and F1.

    >>> answer_scores("the red car", ["a car", "bicycle"])
    (0.0, 0.6666666666666666)
    """
    answer = normalize_answer(answer)
    golds = [normalize_answer(gold) for gold in golds]
    return (
        float(any(answer == gold for gold in golds)),
        max(_token_f1(answer.split(), gold.split()) for gold in golds),
    )


def _token_f1(answer: list[str], gold: list[str]) -> float:
    if not answer or not gold:
        return float(answer == gold)
    common = sum((Counter(answer) & Counter(gold)).values())
    return 2 * common / (len(answer) + len(gold))


def best_spans(
    logits: JaggedArray, longest: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Find the span of each window with the highest sum of start and end logit, exactly.

    Args:
        logits: start and end logits of W windows, ``(U, 2)``; the first position of a window stands
            for no answer and is part of no span.
        longest: maximum number of positions of a span.

    Returns:
        The score of the span ``(W,)``, minus infinity for a window without further positions; its
        first and last position in the window ``(W, 2)``; and the score of no answer ``(W,)``.
    """
    number = len(logits)
    scores = np.full(number, -np.inf)
    spans = np.zeros((number, 2), dtype=np.int64)
    for first in range(0, number, WINDOWS):
        last = min(first + WINDOWS, number)
        start, end = _columns(logits, first, last)
        rows = np.arange(last - first)
        for distance in range(min(longest, start.shape[1])):
            sums = start[:, : start.shape[1] - distance] + end[:, distance:]
            best = sums.argmax(axis=1)
            better = sums[rows, best] > scores[first:last]
            scores[first:last][better] = sums[rows, best][better]
            # Columns are counted from the position after the first.
            spans[first:last][better] = np.stack([best, best + distance], axis=1)[better] + 1
    no_answer = np.asarray(logits.values[logits.starts[:-1]], dtype=np.float64).sum(axis=1)
    return scores, spans, no_answer


def _columns(logits: JaggedArray, first: int, last: int) -> tuple[Floats, Floats]:
    """Return padded start and end logits of some windows, ``(W, L - 1)``.

    Without the first position of each window; padding is minus infinity.
    """
    counts = logits.counts[first:last]
    exists = np.arange(counts.max()) < counts[:, None]
    columns = np.full((2, *exists.shape), -np.inf)
    values = logits.values[logits.starts[first] : logits.starts[last]]
    for column, padded in enumerate(columns):
        padded[exists] = values[:, column]
    return columns[0, :, 1:], columns[1, :, 1:]
