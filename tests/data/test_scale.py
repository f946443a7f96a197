"""What a million rows cost: counted and weighed on fewer."""

import gzip
import hashlib
import json
import os
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from datasets import ClassLabel, Dataset

from distill.data import prepare as module
from distill.data.columns import content_hash, distinct_values, iter_values, numeric_column
from distill.data.dataset import DistillationDataset
from distill.data.encode import encode_split
from distill.data.prepare import prepare_data
from distill.data.sampler import LengthGroupedBatchSampler
from distill.data.sources.files import FileSource, read_file
from distill.data.text_preprocessor import TextPreprocessor
from distill.tasks.multi_label import MultiLabel
from distill.tasks.regression import Regression
from distill.tasks.sequence_classification import SequenceClassification, SingleLabelSchema
from distill.teacher import logits_cache
from tests.factories import collator, sentences, write_csv

TASK = SequenceClassification()


@pytest.fixture
def file(tmp_path):
    return write_csv(tmp_path / "films.csv", sentences(200, 1))


@pytest.fixture
def prepared(file, tmp_path):
    def run(task=TASK, **settings):
        source = FileSource(name="films", path=str(file), **settings)
        return prepare_data(source, task.schema, tmp_path / "cache")

    return run


def replaced_unnoticed(file: Path, old: bytes, new: bytes) -> None:
    """Other content of the same size with the same time of change."""
    before = file.stat()
    content = file.read_bytes()
    assert old in content and len(old) == len(new)
    file.write_bytes(content.replace(old, new))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_mtime_ns == before.st_mtime_ns


# --- once ----------------------------------------------------------------------------------------


def test_a_second_run_neither_checks_nor_hashes_a_row(prepared, monkeypatch):
    first = prepared()

    def never(*arguments):
        raise AssertionError("every row is gone through again")

    for name in ("row_hashes", "_drop_empty_rows", "_write_split"):
        monkeypatch.setattr(module, name, never)
    monkeypatch.setattr(SingleLabelSchema, "targets", never)
    second = prepared()
    assert vars(second) | {"splits": None} == vars(first) | {"splits": None}
    for split, rows in first.splits.items():
        assert rows.to_dict() == second.splits[split].to_dict()
        assert second.splits[split].cache_files  # memory-mapped
        assert second.splits[split]._indices is None  # and in the order of the file


def test_a_second_command_only_trains(command, corpus, trained, tmp_path, monkeypatch):
    run = [
        "data=files", f"data.path={corpus}", f"teacher.path={trained}", "student=half",
        f"cache_dir={tmp_path / 'cache'}", "data.max_length=24", "trainer.max_epochs=1",
        "trainer.precision=32-true", "trainer.accelerator=cpu",
    ]  # fmt: skip
    calls = []
    for owner, name in (
        (module, "row_hashes"),
        (SingleLabelSchema, "targets"),
        (TextPreprocessor, "encode"),
        (logits_cache, "_compute_logits"),
    ):
        original = getattr(owner, name)

        def counted(*arguments, original=original, name=name, **named):
            calls.append(name)
            return original(*arguments, **named)

        monkeypatch.setattr(owner, name, counted)
    assert command(*run, "output_dir=first")[0] == 0
    # Every split once, the teacher's outputs too: train for the student, the others for the report.
    assert Counter(calls) == {"row_hashes": 3, "targets": 3, "encode": 3, "_compute_logits": 3}
    calls.clear()
    assert command(*run, "output_dir=second")[0] == 0
    assert calls == []
    first, second = (
        json.loads((tmp_path / name / "report.json").read_text()) for name in ("first", "second")
    )
    assert all(second["reused"].values())
    assert not all(first["reused"].values())
    assert second["models"][1]["quality"] == first["models"][1]["quality"]
    assert second["data"] == first["data"]


def test_what_is_kept_knows_its_name_only_from_the_source(prepared):
    assert prepared().name == "films"
    assert prepared(max_length=7, batch_size=3).hashes == prepared().hashes


@pytest.mark.parametrize(
    "settings",
    [{"limit": 50}, {"labels": ["positive", "negative"]}, {"empty": "drop"}],
)
def test_every_setting_is_in_the_key(prepared, settings, tmp_path):
    prepared()
    prepared(**settings)
    assert len([path for path in (tmp_path / "cache" / "prepared").iterdir() if path.is_dir()]) == 2


def test_the_tasks_settings_are_in_the_key(tmp_path):
    rows = [row | {"label": str(index / 100)} for index, row in enumerate(sentences(200, 1))]
    source = FileSource(name="films", path=str(write_csv(tmp_path / "films.csv", rows)))
    whole, half = (
        prepare_data(source, Regression(scale=scale).schema, tmp_path / "cache")
        for scale in (1.0, 2.0)
    )
    np.testing.assert_allclose(
        numeric_column(whole.splits["train"], "label"),
        2 * numeric_column(half.splits["train"], "label"),
    )


def test_a_tasks_code_is_in_the_key(tmp_path, monkeypatch, file):
    """Somebody's own task, edited between two runs."""
    source = FileSource(name="films", path=str(file))
    code = "from distill.tasks.sequence_classification import SingleLabelSchema\n"
    code += "class Own(SingleLabelSchema):\n"
    code += "    def targets(self, split, dataset, names):\n"
    code += "        return super().targets(split, dataset, names) * 0 + {}\n"
    monkeypatch.syspath_prepend(tmp_path)
    seen = []
    for number in (0, 1):
        # Another name, or Python's own cache of compiled modules would be what is tested.
        (tmp_path / f"own_task_{number}.py").write_text(code.format(number))
        schema = __import__(f"own_task_{number}").Own("own")
        seen += numeric_column(
            prepare_data(source, schema, tmp_path / "cache").splits["test"], "label"
        ).tolist()
    assert set(seen) == {0, 1}


# --- never stale ---------------------------------------------------------------------------------


def test_a_changed_byte_is_noticed_whatever_the_files_time(prepared, file):
    first = prepared()
    replaced_unnoticed(file, b"film", b"flim")
    second = prepared()
    assert any("film" in text for text in first.splits["train"]["text"])
    assert any("flim" in text for text in second.splits["train"]["text"])
    assert not any("film" in text for text in second.splits["train"]["text"])
    assert first.hashes["train"] != second.hashes["train"]


def test_a_changed_compressed_file_is_noticed(tmp_path, file):
    """datasets keeps what it has decompressed by the path alone."""
    packed = tmp_path / "packed.csv.gz"
    source = FileSource(name="films", path=str(packed))
    rows = []
    for text in (file.read_bytes(), file.read_bytes().replace(b"film", b"flim")):
        packed.write_bytes(gzip.compress(text, mtime=0))
        os.utime(packed, ns=(0, 0))
        rows.append(
            " ".join(prepare_data(source, TASK.schema, tmp_path / "cache").splits["train"]["text"])
        )
    assert "film" in rows[0] and "flim" not in rows[0]
    assert "flim" in rows[1] and "film" not in rows[1]


def test_changed_texts_without_labels_are_noticed(prepared, tmp_path):
    more = tmp_path / "more.txt"
    more.write_text("".join(f"a text number {index}\n" for index in range(50)))
    first = prepared(unlabeled=str(more))
    replaced_unnoticed(more, b"number 7", b"number x")
    second = prepared(unlabeled=str(more))
    assert "a text number 7" in first.splits["unlabelled"]["text"]
    assert "a text number 7" not in second.splits["unlabelled"]["text"]
    assert "a text number x" in second.splits["unlabelled"]["text"]


def test_content_is_what_rows_hold_in_their_order():
    rows = Dataset.from_dict({"text": ["a", "b", "c"], "label": [0, 1, 0]})
    same = Dataset.from_dict({"text": ["a", "b", "c"], "label": [0, 1, 0]})
    assert content_hash(rows) == content_hash(same)
    others = [
        rows.select([1, 0, 2]),
        rows.select([0, 1]),
        rows.select([1, 2]),
        Dataset.from_dict({"text": ["a", "b", "c"], "label": [0, 1, 1]}),
        Dataset.from_dict({"text": ["ab", "", "c"], "label": [0, 1, 0]}),
        Dataset.from_dict({"text": ["a", "b", None], "label": [0, 1, 0]}),
        rows.cast_column("label", ClassLabel(names=["x", "y"])),
        rows.cast_column("label", ClassLabel(names=["y", "x"])),
        rows.rename_column("text", "words"),
    ]
    assert len({content_hash(one) for one in [rows, *others]}) == len(others) + 1


def test_content_of_lists_that_hold_nothing(tmp_path):
    """As JSON is read whose tags are all null."""
    (tmp_path / "tags.jsonl").write_text('{"tags": [null, null]}\n{"tags": [null]}\n')
    rows = read_file(tmp_path / "tags.jsonl", tmp_path)
    assert content_hash(rows) != content_hash(rows.select([1, 0]))


# --- columns -------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [None, [2, 0, 3], range(1, 3)])
def test_columns_as_arrays(order):
    columns = {
        "one": [3, 1, 2, 1],
        "many": [[0, 1], [1, 1], [0, 0], [1, 0]],
        "word": ["x", None, "y", "x"],
    }
    rows = Dataset.from_dict(columns)
    rows = rows if order is None else rows.select(order)
    expected = {name: [column[i] for i in order or range(4)] for name, column in columns.items()}
    assert numeric_column(rows, "one").tolist() == expected["one"]
    assert numeric_column(rows, "many").tolist() == expected["many"]
    assert list(iter_values(rows, "word")) == expected["word"]
    labels, which = distinct_values(rows, "word")
    assert [labels[index] for index in which] == expected["word"]
    assert len(labels) == len(set(expected["word"]))


# --- flat ----------------------------------------------------------------------------------------


def peak(function) -> int:
    """The most bytes that Python objects and arrays took up at once."""
    tracemalloc.start()
    function()
    result = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return result


def test_batches_of_a_pass_are_made_one_at_a_time():
    def through(count):
        lengths = np.random.default_rng(0).integers(3, 60, size=count)
        return peak(lambda: [None for _ in LengthGroupedBatchSampler(lengths, 4, seed=0)])

    # Arrays of indices are 8 bytes an example; a pass of lists would be 40 more.
    assert through(80_000) < through(20_000) + 60_000 * 30


@pytest.mark.parametrize("task", [TASK, MultiLabel()], ids=lambda task: task.name)
def test_memory_does_not_grow_with_the_rows(task, tmp_path, tokenizer):
    """Of what is done a second time, and of a training's batches."""

    def label(index):
        return "ab"[index % 2] if task is TASK else ",".join("ab"[: index % 3])

    def weigh(count):
        rows = [
            {"text": f"the film was good {index}", "label": label(index)} for index in range(count)
        ]
        source = FileSource(name="n", path=str(write_csv(tmp_path / f"{count}.csv", rows)))
        del rows

        def run():
            data = prepare_data(source, task.schema, tmp_path / "cache")
            kept = encode_split(
                data.splits["train"], data.hashes["train"], tokenizer, task.preprocessor,
                task.schema, 16, tmp_path / "cache",
            )  # fmt: skip
            loader = DistillationDataset(kept, collator(tokenizer)).loader(32, seed=0)
            for _, _ in zip(loader, range(5), strict=False):
                pass

        return peak(run), peak(run)

    weigh(100)  # what is imported or made on first use does not count
    few, many = weigh(10_000), weigh(30_000)
    # Hashes, indices and labels are arrays: some tens of bytes a row, where objects are hundreds.
    assert many[0] < few[0] + 20_000 * 100
    assert many[1] < few[1] + 20_000 * 30


def test_hashes_are_those_of_each_rows_own_text(prepared):
    """Caches that exist stay valid: the content's hash is what it always was."""
    data = prepared()
    for split, rows in data.splits.items():
        digest = hashlib.sha256("\x1f".join(data.label_names).encode())
        for text in rows["text"]:
            digest.update(hashlib.sha256(text.encode()).digest()[:8])
        digest.update(np.array(rows["label"], dtype="<i8").tobytes())
        assert data.hashes[split] == digest.hexdigest()[:16]
