"""One class for each meaning, whatever its spelling; rows without a label are none."""

from unicodedata import normalize

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from distill.core.errors import UserError
from distill.data.prepare import prepare_data
from distill.tasks.multi_label import MultiLabel
from distill.tasks.regression import Regression
from distill.tasks.sequence_classification import SequenceClassification
from distill.tasks.token_classification import TokenClassification
from tests.factories import Given

SIZES = {"train": 60, "validation": 20, "test": 30}


def labelled(*labels, count=60, start=0):
    return [
        {"text": f"text {start + index}", "label": labels[index % len(labels)]}
        for index in range(count)
    ]


def splits(*labels, **others):
    return {
        split: labelled(*others.get(split, labels), count=count, start=1000 * number)
        for number, (split, count) in enumerate(SIZES.items())
    }


def prepared(given, tmp_path, task=SequenceClassification, **settings):
    return prepare_data(Given(given, **settings), task().schema, tmp_path)


def named(data, split):
    rows = data.splits[split]
    return {
        text: data.label_names[label]
        for text, label in zip(rows["text"], rows["label"], strict=True)
    }


# --- spelling -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "test", "names"),
    [
        (["0", "1"], ["0.0", "1.0"], ["0", "1"]),
        (["0.0", "1.0"], ["0", "1"], ["0", "1"]),
        ([0, 1], [0.0, 1.0], ["0", "1"]),
        ([0.0, 1.0], ["1", "0"], ["0", "1"]),
        (["1", "2.50"], ["1.", "2.5"], ["1", "2.5"]),
        (["-2.0", "3"], ["-2", "3.00"], ["-2", "3"]),
        ([1, 2, 10], ["10.0", "1.0"], ["1", "2", "10"]),
    ],
)
def test_equal_numbers_are_the_same_class(train, test, names, tmp_path):
    data = prepared(splits(*train, test=test), tmp_path)
    assert data.label_names == names
    expected = [str(float(label)) for label in test]
    found = named(data, "test")
    assert [str(float(found[f"text {2000 + index}"])) for index in range(len(test))] == expected


@pytest.mark.parametrize(
    "labels", [["01", "1"], ["1e0", "1"], ["1.0", "1", "one"], ["v1.0", "v1"], ["+1", "1"]]
)
def test_codes_are_no_numbers(labels, tmp_path):
    data = prepared(splits(*labels), tmp_path)
    assert data.label_names == sorted(data.label_names)
    assert set(data.label_names) == set(labels)


@pytest.mark.parametrize(
    "names", [("긍정", "부정"), ("café", "thé"), ("ポジティブ", "ネガ"), ("Tiếng", "Việt")]
)
@pytest.mark.parametrize("where", ["train", "test"])
def test_decomposed_labels_are_the_composed_ones(names, where, tmp_path):
    given = splits(*names, **{where: [normalize("NFD", name) for name in names]})
    data = prepared(given, tmp_path)
    assert set(data.label_names) == set(names)
    assert set(named(data, "test").values()) == set(names)
    assert any("decomposed form (NFD)" in note for note in data.notes)


def test_decomposed_tags_and_lists(tmp_path):
    nfd = normalize("NFD", "긍정")
    tagged = splits(["긍정", "B"], [nfd], [])
    data = prepared(tagged, tmp_path, MultiLabel)
    assert data.label_names == ["B", "긍정"]
    words = {
        split: [
            {"tokens": ["a", "b", row["text"]], "tags": ["B-인물", normalize("NFD", "I-인물"), "O"]}
            for row in rows
        ]
        for split, rows in tagged.items()
    }
    data = prepared(words, tmp_path, TokenClassification)
    assert data.label_names == ["B-인물", "I-인물", "O"]


@pytest.mark.parametrize(
    "alike", [("Good", "good"), ("good", " good"), ("very good", "very  good"), ("ｇood", "good")]
)
def test_names_that_look_alike_are_noted(alike, tmp_path):
    data = prepared(splits(*alike, "bad"), tmp_path)
    assert set(data.label_names) == {*alike, "bad"}
    assert any("differ in case, white space or width only" in note for note in data.notes)


def test_a_label_of_another_case_is_refused_with_the_reason(tmp_path):
    with pytest.raises(UserError, match=r"'Good', which train does not have.*differs from 'good'"):
        prepared(splits("good", "bad", test=["Good", "bad"]), tmp_path)


@pytest.mark.parametrize(
    ("given", "labels", "names"),
    [
        ([0, 1], ["1", "0"], ["0", "1"]),
        ([1, 0], [0, 1], ["1", "0"]),
        ([False, True], ["True", "False"], ["False", "True"]),
        ([True, False], [True, False], ["True", "False"]),
        ([True, False], ["true", "false"], ["true", "false"]),
        ([1.5, 2], ["1.5", "2.0"], ["1.5", "2"]),
    ],
)
def test_labels_that_are_given_as_numbers_or_flags(given, labels, names, tmp_path):
    assert prepared(splits(*labels), tmp_path, labels=given).label_names == names


# --- missing --------------------------------------------------------------------------------------

ABSENT = [None, "", "  ", float("nan")]


@pytest.mark.parametrize("absent", ABSENT)
@pytest.mark.parametrize("split", SIZES)
def test_a_missing_label_is_an_error_and_can_be_left_out(absent, split, tmp_path):
    present = [1.0, 2.0] if isinstance(absent, float) else ["a", "b"]
    given = splits(*present)
    given[split][7]["label"] = absent
    with pytest.raises(UserError, match=rf"{split} row \d+ has no label.*drop_unlabeled=true"):
        prepared(given, tmp_path)
    data = prepared(given, tmp_path, drop_unlabeled=True)
    assert data.sizes == SIZES | {split: SIZES[split] - 1}
    assert len(data.label_names) == 2
    assert any(f"1 rows of {split} without a label" in note for note in data.notes)


@pytest.mark.parametrize(
    ("labels", "mark"),
    [(["yes", "no", "-"], "-"), ([0, 1, 2, -1], "-1"), (["0", "1", "2", "3", "-1"], "-1"),
     ([0.0, 1.0, 2.0, -1.0], "-1.0")],
)  # fmt: skip
def test_what_marks_no_label_by_convention_is_left_out_and_noted(labels, mark, tmp_path):
    data = prepared(splits(*labels), tmp_path)
    assert len(data.label_names) == len(labels) - 1
    assert sum(f"without a label ('{mark}') were left out" in note for note in data.notes) == 3
    kept = prepared(splits(*labels), tmp_path, drop_unlabeled=False)
    assert len(kept.label_names) == len(labels) and kept.sizes == SIZES


@pytest.mark.parametrize(
    ("labels", "noted"),
    [
        ([-1, 1], False), (["-1", "1"], False), (["+", "-"], False), ([-1, 0, 1], True),
        (["a", "b", "None"], True), (["a", "b", "nan"], True), (["NA", "b"], True),
        (["a", "b", "?"], True),
    ],
)  # fmt: skip
def test_what_may_be_a_class_is_one_and_noted(labels, noted, tmp_path):
    data = prepared(splits(*labels), tmp_path)
    assert set(data.label_names) == set(map(str, labels))
    assert any("is read as a class" in note for note in data.notes) == noted
    assert data.sizes == SIZES


def test_of_classes_of_the_hub_minus_one_is_none(tmp_path):
    features = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    given = {split: Dataset.from_list(rows, features) for split, rows in splits(0, 1, -1).items()}
    data = prepared(given, tmp_path)
    assert data.label_names == ["no", "yes"]
    assert data.sizes == {"train": 40, "validation": 14, "test": 20}


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("mark", [None, -1, "", "-", "?", "nan", "-1"])
def test_a_split_without_any_label_is_not_used(split, mark, tmp_path):
    given = splits("a", "b")
    if isinstance(mark, int):
        given = splits(0, 1)
    given[split] = [row | {"label": mark} for row in given[split]]
    data = prepared(given, tmp_path)
    assert any(f"The {split} split has no labels and is not" in note for note in data.notes)
    assert data.sizes["train"] < SIZES["train"]


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_split_without_the_label_column_is_not_used(split, tmp_path):
    given = splits("a", "b")
    given[split] = [{"text": row["text"]} for row in given[split]]
    data = prepared(given, tmp_path)
    assert any(f"The {split} split has no labels (no column label)" in note for note in data.notes)
    if split == "test":
        with_texts = prepared(given, tmp_path, unlabeled="test")
        assert with_texts.sizes["unlabelled"] == SIZES["test"]
    given["train"] = [{"text": row["text"]} for row in given["train"]]
    with pytest.raises(UserError, match="train has no such column"):
        prepared(given, tmp_path)


def test_numbers_and_lists_without_labels(tmp_path):
    given = splits(1.5, 2.5)
    given["test"][3]["label"] = None
    with pytest.raises(UserError, match="row 4 has no label"):
        prepared(given, tmp_path, Regression)
    assert prepared(given, tmp_path, Regression, drop_unlabeled=True).sizes["test"] == 29
    given = splits(["a"], ["b", "a"], [])
    given["train"][3]["label"] = None
    with pytest.raises(UserError, match=r"row \d+ has no label"):
        prepared(given, tmp_path, MultiLabel)
    data = prepared(given, tmp_path, MultiLabel, drop_unlabeled=True)
    assert data.sizes["train"] == 59 and np.sum(data.splits["train"]["label"], 1).min() == 0


# --- is this the label? ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "hint"),
    [
        (lambda index: f"user{index}", "names its column$"),
        (lambda index: index, "task=regression"),
        (lambda index: f"{index / 7:.3f}", "task=regression"),
        (lambda index: f"a review of {index} words", "names its column$"),
        (lambda index: f"2020-01-01 00:00:{index}", "names its column$"),
    ],
)
def test_identifiers_scores_texts_and_times_are_no_labels(label, hint, tmp_path):
    given = splits("x")
    for rows in given.values():
        for index, row in enumerate(rows):
            row["label"] = label(index)
    with pytest.raises(UserError, match=f"60 different labels in 60 rows of train.*{hint}"):
        prepared(given, tmp_path)


def test_scores_of_few_values_are_noted(tmp_path):
    given = splits(*(index / 4 for index in range(21)))
    assert any("task=regression is for scores" in note for note in prepared(given, tmp_path).notes)


@pytest.mark.parametrize("field", ["binary-label", "real-label"])
def test_fields_of_records(field, tmp_path):
    given = splits("a")
    for rows in given.values():
        for index, row in enumerate(rows):
            row["label"] = {"binary-label": index % 2, "real-label": str(index % 3)}
    with pytest.raises(UserError, match=r"holds records.*data\.label=COLUMN\.FIELD.*binary-label"):
        prepared(given, tmp_path)
    data = prepared(given, tmp_path, label=f"label.{field}")
    assert len(data.label_names) == (2 if field == "binary-label" else 3)
