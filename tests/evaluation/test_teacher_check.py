"""Teachers whose outputs do not mean what the labels mean."""

import numpy as np
import pytest

from distill.core.jagged import JaggedArray
from distill.evaluation.teacher_check import teacher_notes
from distill.tasks.multi_label import MultiLabel
from distill.tasks.regression import Regression
from distill.tasks.sequence_classification import SequenceClassification
from distill.tasks.token_classification import TokenClassification


class Labels:
    """As much of a split as is looked at."""

    def __init__(self, values):
        self.label_values = np.asarray(values)


def notes_of(logits, labels, task=None, names="abc", order=None):
    names = [*names]
    return teacher_notes(
        logits, Labels(labels), task or SequenceClassification(), names,
        range(len(names)) if order is None else order,
    )  # fmt: skip


def noisy_logits(classes, wrong=0.1, count=3, seed=0):
    """Logits of predictions that are these classes but for a share of random ones."""
    draw = np.random.default_rng(seed)
    drawn = draw.integers(count, size=len(classes))
    return np.eye(count)[np.where(draw.random(len(classes)) < wrong, drawn, classes)]


LABELS = np.random.default_rng(1).integers(3, size=300)


def test_a_permuted_head_is_named_with_the_permutation_that_fits():
    # Output 0 means c, 1 means a, 2 means b.
    meaning = np.array([2, 0, 1])
    logits = noisy_logits(np.argsort(meaning)[LABELS])
    (note,) = notes_of(logits, LABELS)
    assert """'teacher.labels=["c","a","b"]'""" in note
    fixed = noisy_logits(LABELS)
    assert not notes_of(fixed, LABELS)


def test_a_head_that_was_put_into_order_is_named_in_its_own_order():
    # The class a is the head's output 2, b its output 0, c its output 1.
    order = [2, 0, 1]
    swapped = np.array([1, 0, 2])[LABELS]  # what is called a means b, and the reverse
    (note,) = notes_of(noisy_logits(swapped), LABELS, order=order)
    assert """'teacher.labels=["a","c","b"]'""" in note


def test_two_classes_swapped_among_many():
    labels = np.random.default_rng(2).integers(12, size=2000)
    swapped = np.where(labels < 6, (labels + 3) % 6, labels)
    names = [f"n{i}" for i in range(12)]
    (note,) = notes_of(noisy_logits(swapped, count=12), labels, names=names)
    assert '["n3","n4","n5","n0","n1","n2","n6","n7","n8","n9","n10","n11"]' in note


@pytest.mark.parametrize("classes", [2, 3, 20, 77])
@pytest.mark.parametrize("count", [20, 100, 1000])
def test_a_teacher_that_guesses_or_says_one_thing_only_is_weak_and_not_permuted(classes, count):
    names = [f"n{i}" for i in range(classes)]
    for seed in range(20):
        draw = np.random.default_rng(seed)
        labels = draw.integers(classes, size=count)
        assert not notes_of(noisy_logits(labels, 1.0, classes, seed), labels, names=names)
        constant = np.tile(np.eye(classes)[seed % classes], (count, 1))
        assert not notes_of(constant, labels, names=names)


def test_labels_of_words_and_sets_of_labels():
    swapped = np.array([1, 0, 2])[LABELS]
    jagged = JaggedArray(noisy_logits(swapped), np.array([100, 200]))
    assert notes_of(jagged, LABELS, TokenClassification())
    decisions = np.random.default_rng(3).integers(2, size=(300, 3))
    logits = 2.0 * decisions[:, [1, 0, 2]] - 1
    (note,) = notes_of(logits, decisions, MultiLabel())
    assert """["b","a","c"]""" in note
    assert not notes_of(2.0 * decisions - 1, decisions, MultiLabel())


def test_logits_of_another_form_are_let_be():
    assert not notes_of(np.zeros((5, 3)), np.zeros(4))
    assert not notes_of(np.zeros((5, 2)), np.zeros(5))


NUMBERS = np.random.default_rng(4).random(200)


@pytest.mark.parametrize(
    ("predicted", "says"),
    [
        (NUMBERS, None),
        (NUMBERS + 0.1, None),
        (np.random.default_rng(5).random(200), None),  # knows nothing
        (10 * NUMBERS - 5, "not in the units of the labels"),
        (100 * NUMBERS, "not in the units of the labels"),
        (1 - NUMBERS, "fall where the labels rise (correlation -1.000)"),
    ],
)
def test_numbers_in_other_units_or_of_the_opposite(predicted, says):
    noise = np.random.default_rng(6).normal(0, 1e-4, 200)
    notes = notes_of((predicted + noise)[:, None], NUMBERS, Regression(), ["score"])
    assert [says in note for note in notes] == ([] if says is None else [True])
