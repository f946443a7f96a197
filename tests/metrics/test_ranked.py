"""Accuracy of five guesses, against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, top_k_accuracy_score

from distill.metrics.classification import accuracy, macro_f1
from distill.metrics.ranked import of_predictions, ranked_codes, top_5_accuracy
from distill.metrics.statistics import bootstrap_interval


@pytest.fixture(scope="module")
def scored():
    draw = np.random.default_rng(0)
    return draw.normal(size=(200, 12)), draw.integers(0, 12, 200)


def test_five_guesses(scored):
    logits, labels = scored
    codes = ranked_codes(logits, labels)
    expected = top_k_accuracy_score(labels, logits, k=5, labels=range(12))
    assert top_5_accuracy(codes, labels) == pytest.approx(expected)


def test_predictions_are_still_there(scored):
    logits, labels = scored
    codes, predicted = ranked_codes(logits, labels), logits.argmax(axis=1)
    assert np.array_equal(codes // 2, predicted)
    assert of_predictions(accuracy)(codes, labels) == accuracy_score(labels, predicted)
    expected = f1_score(labels, predicted, average="macro", zero_division=0)
    assert of_predictions(macro_f1)(codes, labels) == pytest.approx(expected)


def test_equal_logits_rank_by_class():
    logits = np.zeros((8, 8))
    assert (ranked_codes(logits, np.arange(8)) % 2).tolist() == [1] * 5 + [0] * 3


def test_the_interval_holds_the_value(scored):
    logits, labels = scored
    codes = ranked_codes(logits, labels)
    interval = bootstrap_interval(top_5_accuracy, codes, labels)
    low, high = interval[-2:]
    assert low < top_5_accuracy(codes, labels) < high
