"""What is cut from train, and what becomes of classes that few examples have."""

from collections import Counter

import numpy as np
import pytest

from distill.data.prepare import prepare_data
from distill.tasks.multi_label import MultiLabel
from distill.tasks.question_answering import QuestionAnswering
from distill.tasks.sequence_classification import SequenceClassification
from distill.tasks.token_classification import TokenClassification
from tests.factories import Given


def rows(*labels):
    return [{"text": f"text {index}", "label": label} for index, label in enumerate(labels)]


def prepared(given, tmp_path, task=SequenceClassification, **settings):
    given = given if isinstance(given, dict) else {"train": given}
    return prepare_data(Given(given, **settings), task().schema, tmp_path)


def counts(data, split):
    return Counter(data.label_names[label] for label in data.splits[split]["label"])


@pytest.mark.parametrize("rare", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("seed", range(4))
def test_of_every_class_half_stays_in_train(rare, seed, tmp_path):
    labels = ["a", "b"] * 100 + [f"rare{number}" for number in range(8) for _ in range(rare)]
    given = [row | {"text": f"{row['text']} {seed}"} for row in rows(*labels)]
    data = prepared(given, tmp_path)
    assert len(data.label_names) == 10
    train = counts(data, "train")
    for number in range(8):
        assert train[f"rare{number}"] >= rare / 2
    assert sum(data.sizes.values()) == len(labels)
    assert data.sizes["test"] == len(labels) // 10
    if rare == 1:
        assert any("stay in train: rare" in note for note in data.notes)


def test_rare_tags_and_labels_of_lists_stay(tmp_path):
    given = [
        {"tokens": ["a", f"w{index}"], "tags": ["O", f"B-X{index // 2}" if index < 40 else "O"]}
        for index in range(200)
    ]
    data = prepared(given, tmp_path, TokenClassification)
    train = {data.label_names[tag] for tags in data.splits["train"]["label"] for tag in tags}
    assert train == set(data.label_names)
    lists = rows(*([f"x{index // 2}", "all"] if index < 40 else ["all"] for index in range(200)))
    data = prepared(lists, tmp_path, MultiLabel)
    assert np.asarray(data.splits["train"]["label"]).sum(axis=0).min() >= 1


def questions(contexts, each=5):
    return [
        {
            "question": f"what is {number}.{index}?",
            "context": f"context {number} is {index * 'very '}long" if each < 0 else
            f"context {number} says x",
            "answers": {"text": ["x"], "answer_start": [15]},
        }
        for number in range(contexts)
        for index in range(each)
    ]  # fmt: skip


@pytest.mark.parametrize(("contexts", "each"), [(40, 5), (20, 11), (3, 30), (200, 1)])
def test_questions_of_one_context_stay_together(contexts, each, tmp_path):
    data = prepared(questions(contexts, each), tmp_path, QuestionAnswering)
    found = {split: set(part["text_pair"]) for split, part in data.splits.items()}
    assert not found["train"] & found["test"] and not found["train"] & found["validation"]
    assert not found["validation"] & found["test"]
    assert sum(data.sizes.values()) == contexts * each
    again = prepared(questions(contexts, each)[::-1], tmp_path, QuestionAnswering)
    assert again.fingerprint == data.fingerprint


def test_with_too_few_contexts_it_is_said(tmp_path):
    data = prepared(questions(2, 30), tmp_path, QuestionAnswering)
    assert any("share one or two text_pair" in note for note in data.notes)


@pytest.mark.parametrize("limit", [5, 20, 60])
def test_a_limit_keeps_the_set_of_classes(limit, tmp_path):
    labels = [f"c{min(index // 10, 11)}" for index in range(200)]
    whole = prepared(rows(*labels), tmp_path)
    limited = prepared(rows(*labels), tmp_path, limit=limit)
    assert limited.label_names == whole.label_names
    assert limited.fingerprint == whole.fingerprint
    assert limited.sizes["train"] == limit
    untrained = set(counts(limited, "test")) - set(counts(limited, "train"))
    noted = [note for note in limited.notes if f"among the {limit} of data.limit" in note]
    assert bool(untrained) == any("of test" in note for note in noted)


@pytest.mark.parametrize("lists", [False, True])
def test_a_class_that_is_in_validation_only_is_noted(lists, tmp_path):
    given = {"train": rows(*"ab" * 30), "validation": rows(*"abc" * 5), "test": rows(*"ab" * 10)}
    if lists:
        given = {
            split: [row | {"label": [row["label"]]} for row in part]
            for split, part in given.items()
        }
    data = prepared(given, tmp_path, MultiLabel if lists else SequenceClassification)
    assert data.label_names == ["a", "b", "c"]
    assert any(
        "1 class of validation has no training example and cannot be learned: c (5)" in note
        for note in data.notes
    )


def test_one_class_in_test_is_noted(tmp_path):
    given = {"train": rows(*"ab" * 30), "validation": rows(*"ab" * 5), "test": rows(*"b" * 10)}
    assert "Every evaluated example has the same class, b." in prepared(given, tmp_path).notes


def test_columns_of_ones_and_zeros(tmp_path):
    given = [
        {"text": f"t{index}", "toxic": index % 2, "insult": str(index % 3 // 2), "none": False}
        for index in range(60)
    ]
    data = prepared(given, tmp_path, MultiLabel, label=["toxic", "insult", "none"])
    assert data.label_names == ["toxic", "insult", "none"]
    for part in data.splits.values():
        for text, label in zip(part["text"], part["label"], strict=True):
            index = int(text[1:])
            assert label == [index % 2, index % 3 // 2, 0]
