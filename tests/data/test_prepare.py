import json

import pytest
from datasets import ClassLabel, Dataset

from distill.core.errors import UserError
from distill.data.prepare import prepare_data
from distill.data.sources.files import FileSource
from distill.tasks.sequence_classification import SequenceClassification
from distill.tasks.token_classification import TokenClassification
from tests.factories import Given, sentences


def prepared(splits, tmp_path, **settings):
    return prepare_data(Given(splits, **settings), SequenceClassification().schema, tmp_path)


@pytest.fixture
def whole():
    return {"train": sentences(100, 1), "validation": sentences(20, 2), "test": sentences(30, 3)}


def test_labels_get_ids_in_the_order_of_their_names(whole, tmp_path):
    data = prepared(whole, tmp_path)
    assert data.label_names == ["negative", "positive"]
    assert data.sizes == {"train": 100, "validation": 20, "test": 30}
    row = data.splits["test"][0]
    expected = next(r["label"] for r in whole["test"] if r["text"] == row["text"])
    assert data.label_names[row["label"]] == expected


def test_numbers_are_sorted_by_value(tmp_path):
    rows = [{"text": f"t{i}", "label": str(i % 12)} for i in range(240)]
    data = prepared({"train": rows}, tmp_path)
    assert data.label_names == [str(i) for i in range(12)]


def test_names_for_integer_labels(whole, tmp_path):
    splits = {
        split: [row | {"label": int(row["label"] == "positive")} for row in rows]
        for split, rows in whole.items()
    }
    data = prepared(splits, tmp_path, labels=["bad", "good"])
    assert data.label_names == ["bad", "good"]
    assert set(data.splits["train"]["label"]) == {0, 1}


def test_class_label_features_keep_their_names(whole, tmp_path):
    feature = ClassLabel(names=["positive", "negative"])  # not sorted: the source's own order
    splits = {
        split: Dataset.from_list(rows).cast_column("label", feature)
        for split, rows in whole.items()
    }
    data = prepared(splits, tmp_path)
    assert data.label_names == ["positive", "negative"]
    text, label = data.splits["test"][0]["text"], data.splits["test"][0]["label"]
    assert data.label_names[label] == next(r["label"] for r in whole["test"] if r["text"] == text)


def test_class_labels_called_like_other_ids(whole, tmp_path):
    """Names that are numbers must not be taken for ids: the class called 1 has the id 0."""
    splits = {
        split: Dataset.from_list(
            [row | {"label": 1 if row["label"] == "positive" else 0} for row in rows]
        ).cast_column("label", ClassLabel(names=["1", "2"]))
        for split, rows in whole.items()
    }
    data = prepared(splits, tmp_path)
    row = data.splits["test"][0]
    expected = next(r["label"] for r in whole["test"] if r["text"] == row["text"])
    assert data.label_names[row["label"]] == ("2" if expected == "positive" else "1")


def test_missing_splits_are_cut_by_a_fixed_rule_and_said(whole, tmp_path):
    rows = sentences(400, 1)
    data = prepared({"train": rows}, tmp_path)
    again = prepared({"train": rows[::-1]}, tmp_path)
    assert data.sizes == {"train": 320, "validation": 40, "test": 40}
    assert data.evaluated_on == "test"
    # The same examples whatever the order of the file.
    for split in ("train", "validation", "test"):
        assert sorted(data.splits[split]["text"]) == sorted(again.splits[split]["text"])
    assert sum("cut from train" in note for note in data.notes) == 2


def test_the_test_split_does_not_depend_on_the_limit(tmp_path):
    rows = sentences(400, 1)
    whole, limited = (prepared({"train": rows}, tmp_path, limit=limit) for limit in (None, 50))
    assert whole.fingerprint == limited.fingerprint
    assert limited.sizes["train"] == 50
    assert set(limited.splits["train"]["text"]) <= set(whole.splits["train"]["text"])


def test_other_subsets_of_the_training_examples(tmp_path):
    rows = sentences(400, 1)
    first, again, second, larger = (
        prepared({"train": rows}, tmp_path, limit=limit, subset_seed=seed)
        for limit, seed in ((50, 1), (50, 1), (50, 2), (80, 1))
    )
    assert first.sizes["train"] == 50
    assert first.hashes == again.hashes
    assert first.hashes["train"] != second.hashes["train"]
    assert first.fingerprint == second.fingerprint
    assert set(first.splits["train"]["text"]) <= set(larger.splits["train"]["text"])
    assert any("data.subset_seed=1" in note for note in first.notes)
    with pytest.raises(UserError, match=r"data\.limit"):
        Given({"train": rows}, subset_seed=1)


def test_unlabelled_test_makes_validation_the_test(whole, tmp_path):
    whole["train"], whole["validation"], whole["test"] = (
        [
            row | {"label": label if label is not None else int(row["label"] == "positive")}
            for row in rows
        ]
        for rows, label in (
            (whole["train"], None),
            (whole["validation"], None),
            (whole["test"], -1),
        )
    )
    data = prepared(whole, tmp_path)
    assert data.evaluated_on == "validation"
    assert data.sizes == {"train": 90, "validation": 10, "test": 20}
    assert any("no labels" in note for note in data.notes)


def test_fingerprint_is_that_of_the_evaluated_content(whole, tmp_path):
    first = prepared(whole, tmp_path)
    other = prepared(whole | {"train": sentences(90, 9)}, tmp_path)
    assert first.fingerprint == other.fingerprint
    assert first.hashes["train"] != other.hashes["train"]
    flipped = [
        row | {"label": "positive" if row["label"] == "negative" else "negative"}
        for row in whole["test"][:1]
    ] + whole["test"][1:]
    assert prepared(whole | {"test": flipped}, tmp_path).fingerprint != first.fingerprint


def test_pairs_are_found_or_left(whole, tmp_path):
    paired = {
        split: [row | {"text_pair": f"the {row['text']}"} for row in rows]
        for split, rows in whole.items()
    }
    assert "text_pair" in prepared(paired, tmp_path).splits["train"].column_names
    single = prepared(paired, tmp_path, text_pair=None)
    assert "text_pair" not in single.splits["train"].column_names
    named = prepared(paired, tmp_path, text="text_pair", text_pair="text")
    assert named.splits["test"][0]["text"].startswith("the ")


def test_empty_texts_are_dropped_when_asked(whole, tmp_path):
    whole["train"][3]["text"] = " "
    with pytest.raises(UserError, match=r"row 4\b"):
        prepared(whole, tmp_path)
    data = prepared(whole, tmp_path, empty="drop")
    assert data.sizes["train"] == 99
    assert any("1 empty texts of train" in note for note in data.notes)


def test_texts_of_test_in_train_are_counted(whole, tmp_path):
    whole["test"] = whole["test"] + whole["train"][:2]
    notes = prepared(whole, tmp_path).notes
    shared = len({row["text"] for row in whole["train"]} & {row["text"] for row in whole["test"]})
    assert shared >= 2
    assert any(note.startswith(f"{shared} of the") for note in notes)


def test_labels_that_do_not_fit(whole, tmp_path):
    with pytest.raises(UserError, match=r"data\.labels lacks positive"):
        prepared(whole, tmp_path, labels=["negative", "other"])


@pytest.mark.parametrize(
    ("text", "kind"),
    [(3, "int64"), (["a", "film"], "lists of string"), ({"a": "film"}, "records")],
)
def test_a_column_of_something_else_is_no_text(text, kind, whole, tmp_path):
    splits = {s: [row | {"text": text} for row in rows] for s, rows in whole.items()}
    with pytest.raises(UserError, match=rf"data\.text holds {kind} in train, not text"):
        prepared(splits, tmp_path)


def test_records_are_no_classes(whole, tmp_path):
    splits = {s: [row | {"label": {"text": ["a"]}} for row in rows] for s, rows in whole.items()}
    with pytest.raises(UserError, match=r"data\.label holds records, not classes"):
        prepared(splits, tmp_path)


@pytest.mark.parametrize("hidden", [[-1, -1, -1], [None, None, None], []])
def test_a_test_split_whose_tags_are_hidden_is_not_used(tmp_path, hidden):
    for split, tags in (("train", ["B-X", "O", "O"]), ("validation", ["O", "B-X", "O"])):
        lines = [
            json.dumps({"tokens": ["a", "b", f"{split}{i}"], "ner_tags": tags}) for i in range(20)
        ]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines))
    line = json.dumps({"tokens": ["a", "b", "c"], "ner_tags": hidden})
    (tmp_path / "test.jsonl").write_text(line)
    data = prepare_data(
        FileSource(name="tags", path=str(tmp_path)),
        TokenClassification().schema,
        tmp_path / "cache",
    )
    assert data.evaluated_on == "validation"
    assert "The test split has no labels and is not evaluated." in data.notes
