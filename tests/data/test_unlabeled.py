"""Texts without labels: which ones come in, and what student and control make of them."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from datasets import Dataset, concatenate_datasets
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from distill.core.errors import UserError
from distill.data.dataset import DistillationDataset
from distill.data.labels import IGNORED_LABEL
from distill.data.prepare import prepare_data
from distill.data.retrieval import TextEncoder, check_retrieval, nearest_rows
from distill.data.sampler import LengthGroupedBatchSampler
from distill.data.sources.files import FileSource
from distill.tasks.sequence_classification import SequenceClassification
from distill.tasks.token_classification import TokenClassification
from tests.factories import collator, encoded, sentences, write_csv

TASK = SequenceClassification()


@pytest.fixture
def folder(tmp_path):
    """Few labelled examples."""
    for split, count, seed in (("train", 40, 1), ("validation", 20, 2), ("test", 30, 3)):
        write_csv(tmp_path / "films" / f"{split}.csv", sentences(count, seed))
    return tmp_path / "films"


@pytest.fixture
def texts():
    return [row["text"] for row in sentences(200, 9)]


@pytest.fixture
def prepared(folder, tmp_path):
    def run(unlabelled, **settings):
        source = FileSource(name="films", path=str(folder), unlabeled=str(unlabelled), **settings)
        return prepare_data(source, TASK.schema, tmp_path / "cache")

    return run


def lines(file: Path, texts) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return file


def plain(rows) -> list[str]:
    return [" ".join(text.split()).lower() for text in rows["text"]]


# --- which texts ---------------------------------------------------------------------------------


def test_every_text_is_accounted_for(prepared, folder, tmp_path, texts):
    """Nothing of validation and test, nothing twice, nothing empty, and the notes count it all."""
    held = {
        split: pandas.read_csv(folder / f"{split}.csv")["text"].tolist()
        for split in ("train", "validation", "test")
    }
    disguised = ["  " + held["test"][0].upper() + " ", held["test"][1].replace(" ", "  ")]
    given = [
        *texts, *texts[:7], "", "   ", *disguised,
        held["train"][0], *held["validation"][:3], *held["test"][2:6],
    ]  # fmt: skip
    data = prepared(lines(tmp_path / "more.txt", given))
    known = {
        text: split
        for split in ("test", "validation", "train")
        for text in plain(data.splits[split])
    }
    expected = {" ".join(text.split()).lower() for text in given} - {""} - set(known)
    found = plain(data.splits["unlabelled"])
    assert sorted(found) == sorted(expected)  # a list: nothing twice
    assert not set(found) & set(known)
    assert set(data.splits["unlabelled"]["label"]) == {IGNORED_LABEL}
    assert data.sizes["unlabelled"] == len(expected) > 150
    note = next(note for note in data.notes if note.startswith("Left out"))
    counted = sum(int(word) for word in note.replace(":", " ").split() if word.isdigit())
    assert counted == len(given) - len(expected)
    assert "2 are empty" in note
    assert any(note.startswith(f"{len(expected)} texts without labels") for note in data.notes)


def test_labelled_splits_and_fingerprint_are_those_without(prepared, folder, tmp_path, texts):
    without = prepare_data(
        FileSource(name="films", path=str(folder)), TASK.schema, tmp_path / "cache"
    )
    data = prepared(lines(tmp_path / "more.txt", texts))
    assert data.fingerprint == without.fingerprint
    assert "unlabelled" not in without.sizes
    for split in without.splits:
        assert data.hashes[split] == without.hashes[split]
        assert list(data.splits[split]) == list(without.splits[split])


def test_a_smaller_limit_takes_a_part_of_a_larger_ones_texts(prepared, tmp_path, texts):
    first = lines(tmp_path / "more.txt", texts)
    turned = lines(tmp_path / "turned.txt", texts[::-1])
    small, large = (
        prepared(file, unlabeled_limit=limit).splits["unlabelled"]["text"]
        for file, limit in ((first, 30), (turned, 90))
    )
    assert (len(small), len(large)) == (30, 90)
    assert list(small) == list(large)[:30]
    whole = prepared(first)
    assert whole.sizes["unlabelled"] > 90
    assert whole.hashes["unlabelled"] != prepared(first, unlabeled_limit=30).hashes["unlabelled"]


def test_training_examples_beyond_the_limit_may_serve(prepared, folder):
    """The learning curve's other half: few labels, the other texts of train without theirs."""
    data = prepared(folder / "train.csv", limit=10)
    assert data.sizes["train"] == 10
    assert data.sizes["unlabelled"] == 30
    whole = set(pandas.read_csv(folder / "train.csv")["text"])
    assert set(data.splits["train"]["text"]) | set(data.splits["unlabelled"]["text"]) == whole


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "tsv", "jsonl", "parquet", "txt", "txt.gz"])
def test_reads_every_format(prepared, tmp_path, texts, suffix):
    file, frame = tmp_path / f"more.{suffix}", pandas.DataFrame({"text": texts, "id": 1})
    if suffix == "tsv":
        frame.to_csv(file, index=False, sep="\t")
    elif "csv" in suffix:
        frame.to_csv(file, index=False)
    elif suffix == "jsonl":
        frame.to_json(file, orient="records", lines=True)
    elif suffix == "parquet":
        frame.to_parquet(file)
    elif suffix == "txt":
        lines(file, texts)
    else:
        file.write_bytes(gzip.compress("\n".join(texts).encode()))
    rows = prepared(file).splits["unlabelled"]
    assert rows.column_names == ["text", "label"]
    assert set(rows["text"]) <= set(texts)
    assert len(rows) > 150


def test_a_folder_is_all_of_its_files(prepared, tmp_path, texts):
    lines(tmp_path / "more" / "a.txt", texts[:80])
    write_csv(tmp_path / "more" / "b.csv", [{"text": text} for text in texts[80:]])
    (tmp_path / "more" / "README.md").write_text("not data")
    both = prepared(tmp_path / "more")
    one = prepared(lines(tmp_path / "one.txt", texts))
    assert both.splits["unlabelled"]["text"] == one.splits["unlabelled"]["text"]


def test_the_column_is_called_as_in_the_labelled_data_but_in_txt(tmp_path, texts):
    rows = [{"review": row["text"], "label": row["label"]} for row in sentences(60, 1)]
    write_csv(tmp_path / "d" / "train.csv", rows)
    write_csv(tmp_path / "more.csv", [{"review": text} for text in texts])
    lines(tmp_path / "more.txt", texts)
    csv, txt = (
        prepare_data(
            FileSource(
                name="d",
                path=str(tmp_path / "d"),
                text="review",
                unlabeled=str(tmp_path / f"more.{suffix}"),
            ),
            TASK.schema,
            tmp_path / "cache",
        )
        for suffix in ("csv", "txt")
    )
    assert csv.splits["unlabelled"]["text"] == txt.splits["unlabelled"]["text"]


def test_pairs(tmp_path):
    def paired(count, seed):
        return [row | {"text_pair": "the film " + row["text"]} for row in sentences(count, seed)]

    write_csv(tmp_path / "d" / "train.csv", paired(60, 1))
    write_csv(tmp_path / "more.csv", paired(50, 5))
    settings = {"name": "d", "path": str(tmp_path / "d")}
    source = FileSource(**settings, unlabeled=str(tmp_path / "more.csv"))
    rows = prepare_data(source, TASK.schema, tmp_path / "cache").splits["unlabelled"]
    assert rows.column_names == ["text", "text_pair", "label"]
    assert all(row["text_pair"] == "the film " + row["text"] for row in rows)
    source = FileSource(**settings, unlabeled=str(lines(tmp_path / "more.txt", ["one text"])))
    with pytest.raises(UserError, match=r"data\.text_pair=text_pair: .*more\.txt has no such"):
        prepare_data(source, TASK.schema, tmp_path / "cache")


def test_a_data_set_of_the_hub(prepared, monkeypatch, texts):
    """By its id, one configuration of several, and the split that says that it has no labels."""
    asked = []

    def read_hub(path, subset, cache_dir):
        asked.append((path, subset))
        splits = {"train": texts[:100], "unsupervised": texts[100:]}
        return {name: Dataset.from_dict({"text": rows}) for name, rows in splits.items()}

    monkeypatch.setattr("distill.data.unlabeled.read_hub", read_hub)
    rows = prepared("someone/reviews:films").splits["unlabelled"]
    assert asked == [("someone/reviews", "films")]
    assert set(rows["text"]) <= set(texts[100:])


def test_a_split_of_the_hub_set_itself(monkeypatch, tmp_path, texts):
    from distill.data.sources.hub import HubSource

    splits = {
        "train": Dataset.from_list(sentences(60, 1)),
        "unsupervised": Dataset.from_dict({"text": texts, "label": [-1] * len(texts)}),
    }
    monkeypatch.setattr("distill.data.sources.hub.read_with_datasets", lambda *_, **__: splits)
    source = HubSource(name="d", path="someone/d", unlabeled="unsupervised")
    data = prepare_data(source, TASK.schema, tmp_path)
    assert data.sizes["train"] == 48
    assert set(data.splits["unlabelled"]["text"]) <= set(texts)


@pytest.fixture
def split_files(folder, tmp_path):
    """Write the splits of a data set, and prepare it."""

    def run(unlabeled, test=None, **settings):
        if test is not None:
            write_csv(folder / "test.csv", test)
        source = FileSource(name="films", path=str(folder), unlabeled=unlabeled, **settings)
        return prepare_data(source, TASK.schema, tmp_path / "cache")

    return run


@pytest.mark.parametrize("missing", [{}, {"label": ""}, {"label": "-1"}])
def test_the_test_split_without_labels_may_serve(split_files, texts, missing):
    data = split_files("test", [{"text": text} | missing for text in texts])
    assert data.evaluated_on == "validation"
    assert set(data.splits["unlabelled"]["text"]) <= set(texts)
    assert len(data.splits["unlabelled"]) > 150
    assert data.sizes["test"] == 20


def test_what_the_limit_leaves_of_train_may_serve(split_files, folder):
    data = split_files("train", limit=10)
    whole = set(pandas.read_csv(folder / "train.csv")["text"])
    assert (data.sizes["train"], data.sizes["unlabelled"]) == (10, 30)
    assert set(data.splits["train"]["text"]) | set(data.splits["unlabelled"]["text"]) == whole
    # A validation split cut from train is no training text either.
    (folder / "validation.csv").unlink()
    data = split_files("train", limit=10)
    kept = {split: set(rows["text"]) for split, rows in data.splits.items()}
    assert not kept["unlabelled"] & (kept["validation"] | kept["test"] | kept["train"])
    assert data.sizes["unlabelled"] == 40 - 10 - data.sizes["validation"]


def test_several_are_joined_and_what_they_share_counts_once(split_files, tmp_path, texts):
    first = lines(tmp_path / "a.txt", texts[:120])
    second = tmp_path / "b.jsonl"
    pandas.DataFrame({"text": texts[80:]}).to_json(second, orient="records", lines=True)
    both = split_files(["train", str(first), str(second)], limit=10)
    one = split_files(str(lines(tmp_path / "all.txt", texts)), limit=10)
    added = set(both.splits["unlabelled"]["text"]) - set(one.splits["unlabelled"]["text"])
    assert len(both.splits["unlabelled"]) == len(set(both.splits["unlabelled"]["text"]))
    assert set(one.splits["unlabelled"]["text"]) < set(both.splits["unlabelled"]["text"])
    assert len(added) == 30
    assert any("data.unlabeled=train," in note for note in both.notes)


def test_a_split_goes_before_a_folder_of_its_name_which_is_said(
    split_files, tmp_path, monkeypatch, caplog
):
    monkeypatch.chdir(tmp_path)
    lines(tmp_path / "train" / "a.txt", ["one text in a folder"])
    data = split_files("train", limit=10)
    assert "write ./train for that" in caplog.text
    assert data.sizes["unlabelled"] == 30
    assert split_files("./train", limit=10).sizes["unlabelled"] == 1


def test_a_limit_of_none(prepared, folder, tmp_path, texts):
    """The beginning of a learning curve."""
    data = prepared(lines(tmp_path / "more.txt", texts), unlabeled_limit=0)
    assert "unlabelled" not in data.sizes
    assert not any("without labels" in note for note in data.notes)


# --- the nearest ---------------------------------------------------------------------------------


def test_the_nearest_rows_are_those_of_a_search_by_hand():
    random = np.random.default_rng(0)
    queries, pool = (random.normal(size=(count, 5)).astype(np.float32) for count in (7, 60))
    for vectors in (queries, pool):
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    order = np.argsort(-queries @ pool.T, axis=1)
    for neighbors in (1, 4):
        found = nearest_rows(queries, pool, neighbors)
        assert len(set(found)) == len(found)
        assert set(found) == set(order[:, :neighbors].ravel())
    # The nearest come first, and fewer neighbors are a beginning of more.
    assert list(found[: len(set(order[:, 0]))]) == sorted(set(order[:, 0]))
    assert list(nearest_rows(queries, pool, 1)) == list(found[: len(set(order[:, 0]))])
    assert sorted(nearest_rows(queries, pool, 1000)) == list(range(60))


def test_blocks_do_not_change_the_neighbors(monkeypatch):
    random = np.random.default_rng(1)
    queries, pool = (random.normal(size=(count, 4)).astype(np.float32) for count in (9, 30))
    whole = nearest_rows(queries, pool, 3)
    monkeypatch.setattr("distill.data.retrieval.MAX_PRODUCTS", 65)
    assert list(nearest_rows(queries, pool, 3)) == list(whole)


@pytest.fixture
def nearest(folder, tmp_path, pretrained):
    def run(unlabelled, **settings):
        source = FileSource(
            name="films", path=str(folder), unlabeled=str(unlabelled), limit=5,
            unlabeled_select="nearest", unlabeled_encoder=str(pretrained), max_length=24,
            **settings,
        )  # fmt: skip
        return prepare_data(source, TASK.schema, tmp_path / "cache")

    return run


def test_texts_like_the_training_texts_are_selected(nearest, prepared, folder, tmp_path, texts):
    train = prepared(folder / "train.csv", limit=5).splits["train"]["text"]
    likes = [f"{text} ." for text in train]  # nearer than any other
    held = pandas.read_csv(folder / "test.csv")["text"].tolist()
    file = lines(tmp_path / "more.txt", [*texts, *likes, *held])
    data = nearest(file, unlabeled_neighbors=2)
    found = data.splits["unlabelled"]["text"][:]
    assert set(likes) <= set(found)
    assert len(found) <= 10
    assert not set(found) & set(held)
    assert any(f"{len(found)} of " in note and "2 nearest" in note for note in data.notes)
    first = nearest(file, unlabeled_neighbors=2, unlabeled_limit=3).splits["unlabelled"]["text"][:]
    assert first == found[:3]


def test_vectors_are_computed_once(nearest, tmp_path, texts, monkeypatch):
    file = lines(tmp_path / "more.txt", texts)
    one = nearest(file, unlabeled_neighbors=1)
    monkeypatch.setattr(
        "distill.data.retrieval.TextEncoder._compute", lambda *_: pytest.fail("computed again")
    )
    assert nearest(file, unlabeled_neighbors=1).hashes == one.hashes
    assert nearest(file, unlabeled_neighbors=3).sizes["unlabelled"] > one.sizes["unlabelled"]
    pool = len(texts)
    whole = nearest(file, unlabeled_neighbors=10 * pool)
    assert whole.sizes["unlabelled"] <= pool


def test_vectors_are_means_over_tokens_whatever_the_batch(pretrained, tmp_path):
    encoder = TextEncoder(str(pretrained), 12, tmp_path)
    texts = ["good film", "bad", "the film was good and not bad at all"]
    vectors = encoder._compute(texts)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    for text, vector in zip(texts, vectors, strict=True):
        ids = encoder.tokenizer(text, truncation=True, max_length=12, return_tensors="pt")
        mean = encoder.model(**ids).last_hidden_state[0].mean(0).detach().numpy()
        assert np.allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)


def test_nearest_without_a_model_or_texts_is_refused(folder, tmp_path, texts):
    file = lines(tmp_path / "more.txt", texts)
    source = FileSource(
        name="films", path=str(folder), unlabeled=str(file), unlabeled_select="nearest"
    )
    with pytest.raises(UserError, match=r"name a model, data\.unlabeled_encoder"):
        prepare_data(source, TASK.schema, tmp_path / "cache")
    with pytest.raises(UserError, match="which task=token_classification does not read"):
        check_retrieval(TokenClassification().schema)


@pytest.mark.parametrize(
    ("unlabeled", "settings", "says"),
    [
        ("train", {}, "it leaves none: set data.limit below 40, or data.unlabeled=null"),
        ("train", {"limit": 40}, "it leaves none: set data.limit below 40"),
        ("test", {}, "the test split has labels and is what is evaluated"),
        (["train", "nowhere.txt"], {"limit": 9}, "data.unlabeled=nowhere.txt: there is no such"),
        ([], {}, r"data.unlabeled=\[\] names nothing"),
        ("", {}, r"data.unlabeled= names nothing"),
    ],
)
def test_splits_that_cannot_serve(split_files, unlabeled, settings, says):
    with pytest.raises(UserError, match=says):
        split_files(unlabeled, **settings)


# --- the student's training, and the control's ---------------------------------------------------


def test_a_labelled_and_an_unlabelled_example_bring_their_own_logits(tokenizer):
    rows = encoded(tokenizer, 20)
    more = encoded(tokenizer, 10, seed=4).map(lambda row: {"label": IGNORED_LABEL})
    said = [np.full((20, 2), 1, np.float32), np.full((10, 2), 2, np.float32)]
    batch = DistillationDataset(
        concatenate_datasets([rows, more]),
        collator(tokenizer),
        teacher_logits=np.concatenate(said),
    )[[3, 24, 29]]
    assert batch["labels"].tolist() == [rows["label"][3], IGNORED_LABEL, IGNORED_LABEL]
    assert batch["teacher_logits"].tolist() == [[1, 1], [2, 2], [2, 2]]


@pytest.mark.parametrize(("examples", "others"), [(37, 300), (40, 8), (5, 64), (64, 0)])
def test_an_epoch_of_the_control_is_a_stretch_of_one_series_of_passes(examples, others):
    lengths = list(range(3, 3 + examples))
    batches = -(-(examples + others) // 8)
    sampler = LengthGroupedBatchSampler(lengths, 8, seed=0, batches=batches)
    series = []
    for epoch in range(5):
        sampler.set_epoch(epoch)
        once = list(sampler)
        assert len(once) == len(sampler) == batches
        assert once == list(sampler)  # of the epoch alone: a resumed training sees the same
        series += once
    a_pass = -(-examples // 8)
    for start in range(0, len(series) - a_pass + 1, a_pass):
        seen = [index for batch in series[start : start + a_pass] for index in batch]
        assert sorted(seen) == list(range(examples))
    # What it begins with is what it would see without any of this.
    assert series[:a_pass] == list(LengthGroupedBatchSampler(lengths, 8, seed=0))


@pytest.fixture
def few(folder, small, tmp_path, texts):
    """Overrides for a run with 40 labelled examples and some hundred texts without labels."""
    return [
        *small, f"data.path={folder}",
        f"data.unlabeled={lines(tmp_path / 'more.txt', texts[:120])}",
        "data.batch_size=16", "trainer.log_every_n_steps=1",
    ]  # fmt: skip


def test_the_command(few, command):
    code, _, err = command(*few, "output_dir=run")
    assert code == 0, err
    report = json.loads(Path("run/report.json").read_text())
    count = report["data"]["examples"]["unlabelled"]
    assert 100 < count <= 120
    assert {k: report["data"]["examples"][k] for k in ("train", "test")} == {
        "train": 40,
        "test": 30,
    }
    notes = " ".join(report["data"]["notes"])
    assert f"{count} texts without labels" in notes
    assert "as many steps as the student" in notes
    assert f"{count} unlabelled" in Path("run/report.md").read_text()
    events = EventAccumulator(str(Path("run"))).Reload()
    settings = events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    assert b"training.unlabelled" in settings
    steps = {
        role: [scalar.step for scalar in events.Scalars(f"train/loss{role}")]
        for role in ("", "/control")
    }
    # Two epochs of ceil((40 + n) / 16) batches for both, from the first to the last.
    assert len(steps[""]) == 2 * -(-(40 + count) // 16)
    assert steps[""] == steps["/control"]
    validated = [
        [scalar.step for scalar in events.Scalars(f"validation/accuracy{role}")]
        for role in ("", "/control")
    ]
    assert len(validated[0]) == 2
    assert validated[0] == validated[1]

    # A control of the usual length beside it: 2 epochs of ceil(40 / 16) batches.
    usual = events.Scalars("train/loss/control_usual_length")
    assert len(usual) == 2 * 3
    assert [model["role"] for model in report["models"]] == ["teacher", "student", "control"]
    each = ["control_equal_steps", "control_usual_length"]
    assert list(report["training"]) == ["student", "control", *each]
    best = {role: one["best"] for role, one in report["training"].items()}
    assert best["control"] == max(best[role] for role in each)
    assert list(report["comparison"]["gain_over_each_control"]) == each
    equal = best["control_equal_steps"] >= best["control_usual_length"]
    kept = "with as many steps" if equal else "of the usual length"
    assert f"The control is the one {kept}." in notes

    code, _, err = command(*few, "output_dir=again")
    assert code == 0, err
    again = json.loads(Path("again/report.json").read_text())
    assert all(again["reused"].values())
    assert again["models"][1]["quality"] == report["models"][1]["quality"]


def test_the_nearest_to_the_teacher_and_a_tiny_student_without_text(few, command):
    run = [*few, "control=false", "trainer.max_epochs=1", "student=static"]
    code, _, err = command(
        *run, "data.unlabeled_select=nearest", "data.unlabeled_neighbors=1", "output_dir=nearest"
    )
    assert code == 0, err
    report = json.loads(Path("nearest/report.json").read_text())
    assert 0 < report["data"]["examples"]["unlabelled"] <= 40
    assert any("vectors of" in note for note in report["data"]["notes"])
    assert not any("without attention layers" in note for note in report["data"]["notes"])
    code, _, err = command(*run, "data.unlabeled=null", "output_dir=none")
    assert code == 0, err
    notes = json.loads(Path("none/report.json").read_text())["data"]["notes"]
    assert any("without attention layers" in note for note in notes)


def test_a_live_teacher_gives_the_same_student_as_the_stored_outputs(few, command):
    for outputs in ("cached", "live"):
        code, _, err = command(
            *few, f"teacher.outputs={outputs}", "control=false", f"output_dir={outputs}"
        )
        assert code == 0, err
        assert "control" not in " ".join(
            json.loads(Path(f"{outputs}/report.json").read_text())["data"]["notes"]
        )
    stored, live = (load_file(f"{run}/student/model.safetensors") for run in ("cached", "live"))
    for key, value in stored.items():
        assert torch.allclose(value, live[key], atol=2e-3), key


def test_a_sweep_tells_runs_with_and_without_apart(few, command):
    given = few.pop(next(i for i, o in enumerate(few) if o.startswith("data.unlabeled=")))
    code, out, err = command(
        "-m", *few, f"data.unlabeled=null,{given.partition('=')[2]}", "control=false",
        "output_dir=sweep",
    )  # fmt: skip
    assert code == 0, err
    sweep = json.loads(Path("sweep/sweep.json").read_text())
    assert "more.txt" in json.dumps(sweep)
    assert "unlabeled" in out
    folders = sorted(path.name for path in Path("sweep").iterdir() if path.is_dir())
    assert folders == ["00-unlabeled=null", "01-unlabeled=more.txt"]


# --- mistakes ------------------------------------------------------------------------------------


@pytest.fixture
def refused(command, few, monkeypatch):
    def check(*overrides: str, says: str):
        def trained(*_, **__):
            raise AssertionError("something was trained")

        monkeypatch.setattr("distill.training.trainer.TrainerFactory.fit", trained)
        code, _, err = command(*few, *overrides)
        assert code == 2, err
        assert len(err.strip().splitlines()) == 1, err
        assert err.startswith("error: ")
        assert says in err, err
        assert not Path("runs").exists() or not any(Path("runs").iterdir())

    return check


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("data.unlabeled=nowhere.txt", "data.unlabeled=nowhere.txt: there is no such file or"),
        ("data.unlabeled=./nowhere", "there is no such file or folder"),
        ("data.unlabeled=docstrings", "data.unlabeled=docstrings: there is no such file or"),
        ("data.unlabeled=someone/unheard-of", "someone/unheard-of from the hub"),
        ("data.unlabeled=3", "data.unlabeled=3: it must be text or a list of text or null"),
        ("data.unlabeled_limit=-1", "data.unlabeled_limit=-1: it must be 0 or more"),
        (
            "data.unlabeled_select=nearest data.unlabeled_encoder=nowhere/at/all",
            "data.unlabeled_encoder=nowhere/at/all: there is no such folder",
        ),
        ("data.unlabeled=null data.unlabeled_limit=9", "data.unlabeled_limit=9 limits nothing"),
        ("data.augmentation=masking", "it is a group, set augmentation=masking"),
        ("objective.soft_targets.weight=0", "data.unlabeled gives texts without labels, and this"),
    ],
)
def test_options(refused, override, says):
    refused(*override.split(), says=says)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", "", "a.txt has no examples"),
        ("a.txt", "\n \n\n", "no text is left of 3 (3 are empty)"),
        ("a.csv", "", "is empty"),
        ("a.csv", "text\n", "a.csv has no examples"),
        ("a.csv", "review\ngood\n", "data.text=text: "),
        ("a.jsonl", '{"text": 3}\n', "of data.text holds int64 in"),
        ("a.jsonl", "{broken", "cannot read"),
        ("a.xlsx", "x", "its format is none of"),
    ],
)
def test_files(refused, tmp_path, name, content, says):
    file = tmp_path / "given" / name
    file.parent.mkdir()
    file.write_text(content)
    refused(f"data.unlabeled={file}", says=says)


def test_a_folder_without_data(refused, tmp_path):
    (tmp_path / "given").mkdir()
    refused(f"data.unlabeled={tmp_path}/given", says="there is no file in it of .csv")


def test_nothing_but_the_test_split(refused, folder):
    refused(f"data.unlabeled={folder}/test.csv", says="stand in test")


@pytest.mark.parametrize("better", ["control", "control_usual_length"])
def test_the_control_that_is_better_on_validation_counts(few, command, monkeypatch, better):
    from distill.pipeline import run as main_flow

    tuned = main_flow.fine_tune
    folders = {}

    def with_another_result(plan, *args):
        result = tuned(plan, *args)
        folders[str(plan.role)] = result.folder
        best = 0.9 if plan.role == better else 0.8
        return replace(result, result=replace(result.result, best=best))

    monkeypatch.setattr(main_flow, "fine_tune", with_another_result)
    code, _, err = command(*few, f"output_dir={better}")
    assert code == 0, err
    report = json.loads(Path(better, "report.json").read_text())
    assert report["training"]["control"]["best"] == 0.9
    roles = {"control": "control_equal_steps"}
    kept = report["training"][roles.get(better, better)]["best"]
    assert kept == 0.9
    saved, kept = (
        load_file(folder / "model.safetensors")
        for folder in (Path(better, "control"), folders[better])
    )
    assert all(torch.equal(saved[name], kept[name]) for name in kept)
    gain = report["comparison"]["gain_over_control"]["value"]
    student, control = (report["models"][i]["quality"]["accuracy"]["value"] for i in (1, 2))
    assert gain == pytest.approx(student - control)
    each = report["comparison"]["gain_over_each_control"]
    assert each[roles.get(better, better)] == report["comparison"]["gain_over_control"]
    notes = " ".join(report["data"]["notes"])
    equal, usual = ("0.9", "0.8") if better == "control" else ("0.8", "0.9")
    assert f"as the student (accuracy {equal}000)" in notes
    assert f"the usual 2 epochs over the labeled examples (accuracy {usual}000)" in notes
