"""Scores of answers against torchmetrics and a plain reading of the rules; spans by trying all."""

import random
import re
import string

import numpy as np
import pytest
from torchmetrics.functional.text import squad as torchmetrics_squad

from distill.core.jagged import JaggedArray
from distill.metrics import squad
from distill.metrics.statistics import bootstrap_interval, paired_comparison

WORDS = [
    "the",
    "An",
    "a",
    "Norse",
    "norse,",
    "10th",
    "U.S.",
    "us",
    "-",
    "Paris;",
    "칼",
    "théâtre",
    "…",
]


def text(draw: random.Random, least: int = 0) -> str:
    return draw.choice([" ", "  ", "\n"]).join(draw.choices(WORDS, k=draw.randint(least, 5)))


def test_scores_are_those_of_torchmetrics():
    draw = random.Random(0)
    answers = [text(draw) for _ in range(400)]
    golds = [[text(draw, 1) for _ in range(draw.randint(1, 4))] for _ in answers]
    for index in range(0, 400, 3):  # some are right, but for what does not count
        answers[index] = f"The {golds[index][-1].upper()}!"
    scores = np.array([squad.answer_scores(*pair) for pair in zip(answers, golds, strict=True)])
    expected = torchmetrics_squad(
        [{"prediction_text": one, "id": str(i)} for i, one in enumerate(answers)],
        [
            {"answers": {"text": texts, "answer_start": [0] * len(texts)}, "id": str(i)}
            for i, texts in enumerate(golds)
        ],
    )
    assert 100 * squad.exact_match(scores) == pytest.approx(float(expected["exact_match"]))
    assert 100 * squad.f1(scores) == pytest.approx(float(expected["f1"]))
    assert 0.3 < squad.exact_match(scores) < squad.f1(scores) < 0.9


def slowly(answers: str, golds: list[str]) -> tuple[float, float]:
    """The rules of SQuAD v2 once more, one character and one word after another."""

    def words(given: str) -> list[str]:
        kept = "".join(c for c in given.lower() if c not in string.punctuation)
        return [word for word in re.sub(r"\b(a|an|the)\b", " ", kept).split() if word]

    golds = [words(gold) for gold in golds if words(gold)] or [[]]
    best = 0.0
    for gold in golds:
        left, common = list(gold), 0
        for word in words(answers):
            if word in left:
                left.remove(word)
                common += 1
        if not gold or not words(answers):
            best = max(best, float(gold == words(answers)))
        elif common:
            precision, recall = common / len(words(answers)), common / len(gold)
            best = max(best, 2 * precision * recall / (precision + recall))
    return float(words(answers) in golds), best


def test_no_answer_is_right_where_there_is_none():
    assert squad.answer_scores("", [""]) == (1, 1)
    assert squad.answer_scores("the", [""]) == (1, 1)  # nothing is left of it
    assert squad.answer_scores("Norse", [""]) == (0, 0)
    assert squad.answer_scores("", ["Norse"]) == (0, 0)
    draw = random.Random(1)
    for _ in range(300):
        answers, golds = text(draw), [text(draw) for _ in range(draw.randint(0, 3))]
        kept = [gold for gold in golds if squad.normalize_answer(gold)] or [""]
        assert squad.answer_scores(answers, kept) == pytest.approx(slowly(answers, golds))


def test_metrics_have_intervals_and_paired_tests():
    draw = np.random.default_rng(0)
    exact = (draw.random(500) < 0.6).astype(float)
    scores = np.stack([exact, np.maximum(exact, draw.integers(0, 4, 500) / 4)], 1)
    worse = scores * (draw.random((500, 1)) < 0.8)
    for metric, column in ((squad.exact_match, 0), (squad.f1, 1)):
        interval = bootstrap_interval(metric, scores)
        assert interval.value == pytest.approx(scores[:, column].mean())
        assert interval.low < interval.value < interval.high
        difference = paired_comparison(metric, scores, worse)
        assert difference.value == pytest.approx((scores - worse)[:, column].mean())
        assert difference.p_value < 0.001


@pytest.mark.parametrize("longest", [1, 3, 100])
def test_the_best_span_is_the_best_of_all(longest, monkeypatch):
    monkeypatch.setattr(squad, "WINDOWS", 3)
    draw = np.random.default_rng(longest)
    counts = np.array([5, 1, 12, 2, 7, 1, 30, 4])
    values = draw.normal(0, 2, (counts.sum(), 2)).astype(np.float32)
    logits = JaggedArray(values, counts)
    scores, spans, none = squad.best_spans(logits, longest)
    for index, window in enumerate(logits.split()):
        assert none[index] == pytest.approx(float(window[0].sum()))
        tried = {
            (i, j): float(window[i, 0]) + float(window[j, 1])
            for i in range(1, len(window))
            for j in range(i, min(i + longest, len(window)))
        }
        if not tried:
            assert scores[index] == -np.inf
            continue
        assert scores[index] == pytest.approx(max(tried.values()))
        assert tuple(spans[index]) == max(tried, key=tried.get)
