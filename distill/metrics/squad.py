"""Answers to questions: their text against gold answers, and the best span of a window.

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
from distill.metrics.base import CountMetric, Floats

# Windows whose spans are searched at once: some tens of MB.
WINDOWS = 1024

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@CountMetric
def exact_match(scores: NDArray, counts: Floats) -> Floats:
    """Mean over the questions of the first column of :func:`answer_scores`.

    >>> exact_match([[1.0, 1.0], [0.0, 0.5]])
    0.5
    """
    return counts @ scores[:, 0] / counts.sum(axis=1)


@CountMetric
def f1(scores: NDArray, counts: Floats) -> Floats:
    """Mean over the questions of the second column of :func:`answer_scores`.

    >>> f1([[1.0, 1.0], [0.0, 0.5]])
    0.75
    """
    return counts @ scores[:, 1] / counts.sum(axis=1)


def normalize_answer(text: str) -> str:
    """In lower case, without punctuation, articles and superfluous white space.

    >>> normalised("The  U.S. Army's")
    'us armys'
    """
    text = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", text).split())


def answer_scores(answer: str, golds: Sequence[str]) -> tuple[float, float]:
    """Exact match and F1 over the words, each the best over the gold answers.

    Args:
        answer: a prediction; empty for no answer.
        golds: one or more; ``[""]`` for a question that has none. F1 is then that of the exact
            match, as it is where a normalised answer has no words.

    >>> scores_of("the red car", ["a car", "bicycle"])
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
    """The span of each window with the highest sum of start and end logit, searched exactly.

    Args:
        logits: of W windows, ``(U, 2)``, start and end of each unit; a window's first unit stands
            for no answer and is part of no span.
        longest: units of a span, at most.

    Returns:
        Its score ``(W,)``, minus infinity where a window has no units but the first; its first and
        last unit ``(W, 2)``, as they are counted in the window; and the score of no answer
        ``(W,)``.
    """
    number = len(logits)
    scores = np.full(number, -np.inf)
    spans = np.zeros((number, 2), dtype=np.int64)
    for first in range(0, number, WINDOWS):
        last = min(first + WINDOWS, number)
        start, end = _columns(logits, first, last)
        rows = np.arange(last - first)
        for more in range(min(longest, start.shape[1])):
            sums = start[:, : start.shape[1] - more] + end[:, more:]
            at = sums.argmax(axis=1)
            better = sums[rows, at] > scores[first:last]
            scores[first:last][better] = sums[rows, at][better]
            # Counted from the unit after the first.
            spans[first:last][better] = np.stack([at, at + more], axis=1)[better] + 1
    none = np.asarray(logits.values[logits.starts[:-1]], dtype=np.float64).sum(axis=1)
    return scores, spans, none


def _columns(logits: JaggedArray, first: int, last: int) -> tuple[Floats, Floats]:
    """Start and end logits of some windows without their first units, filled up: ``(W, L - 1)``."""
    counts = logits.counts[first:last]
    there = np.arange(counts.max()) < counts[:, None]
    columns = np.full((2, *there.shape), -np.inf)
    values = logits.values[logits.starts[first] : logits.starts[last]]
    for column, padded in enumerate(columns):
        padded[there] = values[:, column]
    return columns[0, :, 1:], columns[1, :, 1:]
