import gzip
import json

import pandas
import pytest

from distill.core.errors import UserError
from distill.data.sources.files import FileSource

ROWS = [
    {"text": "plain", "label": "a"},
    {"text": 'quoted, with "marks"', "label": "b"},
    {"text": "NA", "label": "a"},
    {"text": "null", "label": "b"},
    {"text": "None", "label": "a"},
    {"text": "12", "label": "b"},
    {"text": "한국어 문장", "label": "a"},
    {"text": "two\nlines", "label": "b"},
]


def read(path, cache, **settings):
    return FileSource(name="d", path=str(path), **settings).read(cache)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "jsonl", "jsonl.gz", "parquet"])
def test_reads_every_format_just_as_it_stands(folder, tmp_path, suffix):
    frame, file = pandas.DataFrame(ROWS), folder / f"train.{suffix}"
    if "csv" in suffix:
        frame.to_csv(file, index=False)
    elif "jsonl" in suffix:
        frame.to_json(file, orient="records", lines=True, force_ascii=False)
    else:
        frame.to_parquet(file)
    assert list(read(folder, tmp_path)["train"]) == ROWS


def test_tsv_has_no_quotes_unless_asked(folder, tmp_path):
    (folder / "train.tsv").write_text('text\tlabel\n"open quote\ta\nsecond\tb\n')
    rows = list(read(folder, tmp_path)["train"])
    assert rows == [{"text": '"open quote', "label": "a"}, {"text": "second", "label": "b"}]
    (folder / "train.tsv").write_text('text\tlabel\n"a\tb"\ta\n')
    rows = list(read(folder, tmp_path / "other", quotes=True)["train"])
    assert rows == [{"text": "a\tb", "label": "a"}]


def test_integer_labels_of_csv_keep_their_digits(folder, tmp_path):
    (folder / "train.csv").write_text("text,label\nx,0\ny,1\n")
    assert read(folder, tmp_path)["train"]["label"] == ["0", "1"]


@pytest.mark.parametrize("name", ["validation", "valid", "val", "dev"])
def test_knows_the_common_names_of_splits(folder, tmp_path, name):
    for split in ("train", name, "test"):
        (folder / f"{split}.csv").write_text("text,label\nx,0\n")
    (folder / "README.md").write_text("not data")
    assert set(read(folder, tmp_path)) == {"train", "validation", "test"}


def test_single_file_and_mapping(folder, tmp_path):
    (folder / "reviews.csv").write_text("text,label\nx,0\n")
    assert set(read(folder / "reviews.csv", tmp_path)) == {"train"}
    mapping = {"train": str(folder / "reviews.csv"), "test": str(folder / "reviews.csv")}
    assert set(FileSource(name="d", path=mapping).read(tmp_path)) == {"train", "test"}


def test_a_changed_file_is_read_anew(folder, tmp_path):
    (folder / "train.csv").write_text("text,label\nx,0\n")
    assert read(folder, tmp_path)["train"]["text"] == ["x"]
    (folder / "train.csv").write_text("text,label\nchanged,0\n")
    assert read(folder, tmp_path)["train"]["text"] == ["changed"]


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"train.csv": "text,label\n", "train.jsonl": "{}"}, "two files for train"),
        ({"test.csv": "text,label\nx,0\n"}, "no training file"),
        ({"train.csv": ""}, "is empty"),
        ({"train.csv": b"text,label\n\xff\xfe,0\n"}, "cannot read"),
        ({"train.jsonl": "{not json"}, "cannot read"),
        ({"train.csv": 'text,label\nx,0,1,2\n"'}, "cannot read"),
    ],
)
def test_refuses(folder, tmp_path, files, says):
    for name, content in files.items():
        write = (
            (folder / name).write_bytes
            if isinstance(content, bytes)
            else (folder / name).write_text
        )
        write(content)
    with pytest.raises(UserError, match=says):
        read(folder, tmp_path)


def test_refuses_an_unknown_format(folder, tmp_path):
    (folder / "train.xlsx").write_text("x")
    with pytest.raises(UserError, match="format is none of"):
        read(folder / "train.xlsx", tmp_path)


def test_broken_gzip(folder, tmp_path):
    (folder / "train.csv.gz").write_bytes(gzip.compress(b"text,label\nx,0\n")[:-9])
    with pytest.raises(UserError, match="cannot read"):
        read(folder, tmp_path)


def test_jsonl_keeps_types(folder, tmp_path):
    (folder / "train.jsonl").write_text(json.dumps({"text": "x", "label": 3}) + "\n")
    assert read(folder, tmp_path)["train"]["label"] == [3]
