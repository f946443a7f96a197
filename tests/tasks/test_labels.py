"""How each task reads labels, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from distill.core.errors import UserError
from distill.data.prepare import prepare_data
from distill.tasks.multi_label import MultiLabel
from distill.tasks.regression import Regression
from distill.tasks.sequence_classification import SequenceClassification
from tests.factories import Given, sentences, write_csv
from tests.tasks.texts import rated, tagged

SIZES = (("train", 60, 1), ("validation", 20, 2), ("test", 30, 3))


def splits(rows, **changes):
    return {split: rows(count, seed) for split, count, seed in SIZES} | changes


def labelled(*labels, count=40):
    """As many texts with these labels in turn."""
    rows = sentences(count, 7)
    return [row | {"label": labels[i % len(labels)]} for i, row in enumerate(rows)]


def by_text(data, split="test"):
    return dict(zip(data.splits[split]["text"], data.splits[split]["label"], strict=True))


# --- regression ---------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [float, str, lambda x: f" {x:.2f} "])
def test_numbers_and_numbers_as_text(form, tmp_path):
    given = splits(rated)
    rows = {s: [row | {"label": form(row["label"])} for row in r] for s, r in given.items()}
    data = prepare_data(Given(rows), Regression().schema, tmp_path)
    assert data.label_names == ["score"]
    assert by_text(data) == {row["text"]: row["label"] for row in given["test"]}


def test_integers_are_numbers_and_a_scale_divides(tmp_path):
    given = splits(lambda count, seed: labelled(0, 50, 100, count=count))
    data = prepare_data(Given(given), Regression(scale=100).schema, tmp_path)
    assert set(data.splits["train"]["label"]) == {0.0, 0.5, 1.0}
    assert data.label_names == ["score / 100"]
    with pytest.raises(UserError, match=r"the labels reach 100, .* task\.scale=10 to divide"):
        prepare_data(Given(given), Regression().schema, tmp_path)
    as_they_are = prepare_data(Given(given), Regression(scale=1).schema, tmp_path)
    assert set(as_they_are.splits["train"]["label"]) == {0.0, 50.0, 100.0}
    assert as_they_are.label_names == ["score"]


def test_the_fingerprint_sees_what_stands_behind_the_point(tmp_path):
    one = splits(rated)
    other = splits(rated)
    other["test"][0]["label"] += 0.25
    first, second = (
        prepare_data(Given(rows), Regression().schema, tmp_path) for rows in (one, other)
    )
    assert first.fingerprint != second.fingerprint
    assert first.hashes["train"] == second.hashes["train"]


@pytest.mark.parametrize(
    ("label", "says"),
    [
        ("positive", r"row 3 has the label 'positive', which is no number: task=sequence_class"),
        ("nan", "row 3 has the label 'nan', which is no number"),
        ("inf", "row 3 has the label 'inf', which is no number"),
        ("", "row 3 has no label"),
    ],
)
def test_regression_refuses_what_is_no_number(label, says, tmp_path):
    for split in ("train", "validation", "test"):
        rows = {
            s: [r | {"label": str(r["label"])} for r in part] for s, part in splits(rated).items()
        }
        data = prepare_data(Given(rows), Regression().schema, tmp_path)
        third = data.splits[split][2]["text"] if split == "train" else rows[split][2]["text"]
        next(row for row in rows[split] if row["text"] == third)["label"] = label
        with pytest.raises(UserError, match=f"{split} {says}"):
            prepare_data(Given(rows), Regression().schema, tmp_path)


def test_regression_refuses_classes(tmp_path):
    features = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    rows = splits(lambda count, seed: Dataset.from_list(labelled(0, 1, count=count), features))
    with pytest.raises(UserError, match="are classes, and task=regression needs numbers"):
        prepare_data(Given(rows), Regression().schema, tmp_path)
    with pytest.raises(UserError, match="task=multi_label is for classes"):
        prepare_data(Given(splits(tagged)), Regression().schema, tmp_path)
    with pytest.raises(UserError, match=r"data\.labels names classes"):
        prepare_data(Given(splits(rated), labels=["low", "high"]), Regression().schema, tmp_path)
    same = splits(lambda count, seed: labelled(2.5, count=count))
    with pytest.raises(UserError, match=r"every label of train is 2\.5"):
        prepare_data(Given(same), Regression().schema, tmp_path)


def test_a_test_split_without_numbers_is_not_used(tmp_path):
    rows = splits(rated, test=labelled(-1.0))
    data = prepare_data(Given(rows), Regression().schema, tmp_path)
    assert data.evaluated_on == "validation"


# --- multi-label --------------------------------------------------------------------------------


def tag_names(data, split="test"):
    return {
        text: {name for name, yes in zip(data.label_names, target, strict=True) if yes}
        for text, target in by_text(data, split).items()
    }


def expected(rows):
    return {row["text"]: set(row["label"]) for row in rows}


def as_ids(count, seed):
    names = ["praise", "both", "blame"]  # not in the order of the alphabet
    features = Features({"text": Value("string"), "label": List(ClassLabel(names=names))})
    rows = [r | {"label": [names.index(n) for n in r["label"]]} for r in tagged(count, seed)]
    return Dataset.from_list(rows, features)


def test_lists_of_words_and_of_class_labels(tmp_path):
    given = splits(tagged)
    words = prepare_data(Given(given), MultiLabel().schema, tmp_path)
    assert words.label_names == ["blame", "both", "praise"]
    ids = prepare_data(Given(splits(as_ids)), MultiLabel().schema, tmp_path)
    assert ids.label_names == ["praise", "both", "blame"]
    assert tag_names(words) == tag_names(ids) == expected(given["test"])
    assert set() in tag_names(words).values()  # none of the classes is an answer too


def test_integers_named_by_data_labels(tmp_path):
    names = ["blame", "both", "praise"]
    rows = {
        split: [row | {"label": [names.index(n) for n in row["label"]]} for row in part]
        for split, part in splits(tagged).items()
    }
    plain = prepare_data(Given(rows), MultiLabel().schema, tmp_path)
    assert plain.label_names == ["0", "1", "2"]
    named = prepare_data(Given(rows, labels=names), MultiLabel().schema, tmp_path)
    assert tag_names(named) == expected(splits(tagged)["test"])


@pytest.mark.parametrize(("separator", "given"), [(",", {}), (" ; ", {"label_separator": ";"})])
def test_text_with_separators(separator, given, tmp_path):
    rows = splits(tagged)
    joined = {s: [r | {"label": separator.join(r["label"])} for r in rows[s]] for s in rows}
    data = prepare_data(Given(joined, **given), MultiLabel().schema, tmp_path)
    assert tag_names(data) == expected(rows["test"])


def test_a_separator_without_many_labels_is_refused(tmp_path):
    for task in (SequenceClassification(), Regression()):
        with pytest.raises(UserError, match=r"data\.label_separator=;: .* task=multi_label"):
            prepare_data(Given(splits(rated), label_separator=";"), task.schema, tmp_path)
    with pytest.raises(UserError, match="is empty"):
        Given({}, label_separator="")


def test_multi_label_refuses_what_it_cannot_read(tmp_path):
    def refused(says, rows, **settings):
        with pytest.raises(UserError, match=says):
            prepare_data(Given(rows, **settings), MultiLabel().schema, tmp_path)

    strange = splits(tagged)
    strange["test"][4]["label"] = ["praise", "awe"]
    refused(r"test row 5 has the label 'awe', which train does not have \(blame", strange)
    missing = splits(tagged)
    missing["test"][4]["label"] = None
    refused("test row 5 has no label", missing)
    refused(r"data\.labels lacks both", splits(tagged), labels=["praise", "blame"])
    refused("are no lists but single ones .*task=sequence_classification", splits(rated))
    refused("has any label", splits(lambda count, seed: labelled("", count=count)))


def test_single_labels_refuse_lists(tmp_path):
    with pytest.raises(UserError, match="the labels are lists: task=multi_label"):
        prepare_data(Given(splits(tagged)), SequenceClassification().schema, tmp_path)


# --- texts without labels -----------------------------------------------------------------------


@pytest.mark.parametrize(("task", "rows"), [(Regression(), rated), (MultiLabel(), tagged)])
def test_texts_without_labels_say_so_in_the_tasks_own_way(task, rows, tmp_path):
    more = tmp_path / "more.txt"
    more.write_text("\n".join(f"{row['text']} again" for row in rows(10, 11)))
    data = prepare_data(Given(splits(rows), unlabeled=str(more)), task.schema, tmp_path)
    labels = np.asarray(data.splits["unlabelled"]["label"], dtype=float)
    assert labels.shape == {1: (10,), 3: (10, 3)}[len(data.label_names)]
    assert (np.isnan(labels) | (labels == -100)).all()
    assert data.splits["unlabelled"].features["label"] == data.splits["train"].features["label"]


# --- through the command ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "rows", "says"),
    [
        ("regression", sentences, "which is no number"),
        ("regression task.scale=-1", rated, "task.scale=-1"),
        ("regression task.metric=accuracy", rated, "choose one of pearson, spearman"),
        ("regression task.per_class=true", rated, "there is no option task.per_class"),
        ("regression objective=dkd", rated, "it has no form for regression"),
        ("multi_label objective=dist", sentences, "it has no form for multi_label"),
        (
            "regression +schedule@objective.soft_targets.temperature=flsw", rated,
            "an adaptive schedule needs a distribution over classes",
        ),
        (
            'sequence_classification data.label_separator=";"', sentences,
            "task=multi_label has many",
        ),
    ],
)  # fmt: skip
def test_mistakes_are_answered_in_one_line(task, rows, says, command, small, monkeypatch):
    def trained(*_, **__):
        raise AssertionError("something was trained")

    monkeypatch.setattr("distill.training.trainer.TrainerFactory.fit", trained)
    for split, count, seed in SIZES:
        write_csv(Path("own") / f"{split}.csv", rows(count, seed))
    name, *others = task.split(" ")
    code, _, err = command(*small, f"task={name}", "data.path=own", *others)
    assert code == 2
    assert err.startswith("error: ")
    assert len(err.strip().splitlines()) == 1
    assert says in err


def test_a_file_of_lists_reads_back(tmp_path):
    """jsonl and parquet, through the program's own reader."""
    from distill.data.sources.files import FileSource

    rows = splits(tagged)
    for split, part in rows.items():
        text = "".join(json.dumps(row) + "\n" for row in part)
        (tmp_path / "jsonl").mkdir(exist_ok=True)
        (tmp_path / "jsonl" / f"{split}.jsonl").write_text(text)
        (tmp_path / "parquet").mkdir(exist_ok=True)
        Dataset.from_list(part).to_parquet(tmp_path / "parquet" / f"{split}.parquet")
    for form in ("jsonl", "parquet"):
        source = FileSource(name="own", path=str(tmp_path / form))
        data = prepare_data(source, MultiLabel().schema, tmp_path / "cache")
        assert tag_names(data) == expected(rows["test"])
