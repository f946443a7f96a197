"""Files with a word a line."""

import gzip
import re

import pytest

from distill.core.errors import UserError
from distill.data.prepare import prepare_data
from distill.data.readers.conll import read_conll
from distill.data.sources.files import FileSource
from distill.tasks.token_classification import TokenClassification

NEWS = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O
# SYM B-NP O

Peter NNP B-NP B-PER
Blackburn NNP I-NP I-PER

-DOCSTART- -X- -X- O
1996 CD O O
"""
WORDS = [["EU", "rejects", "#"], ["Peter", "Blackburn"], ["1996"]]
TAGS = [["B-ORG", "O", "O"], ["B-PER", "I-PER"], ["O"]]


def written(folder, text, name="train.conll"):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


@pytest.mark.parametrize("ends", ["", "\n", "\n\n\n"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", " \n"])
def test_columns_sentences_and_documents(tmp_path, line_end, ends):
    text = (NEWS.rstrip("\n") + ends).replace("\n", line_end)
    rows = read_conll(written(tmp_path, text))
    assert rows["tokens"][:] == rows["1"][:] == WORDS
    assert rows["ner_tags"][:] == rows["4"][:] == TAGS
    assert rows["2"][0] == ["NNP", "VBZ", "SYM"]


def test_tabs_keep_spaces_in_words_and_byte_order_marks_go(tmp_path):
    text = "\ufeffNew York\tB-LOC\nno\u00a0break\tO\n#\tO\n \n#tag\tO\n"
    rows = read_conll(written(tmp_path, text))
    assert rows["tokens"][:] == [["New York", "no\u00a0break", "#"], ["#tag"]]
    assert read_conll(written(tmp_path, "no\u00a0break O\n"))["1"][0] == ["no\u00a0break"]


def test_comments_stand_before_sentences_and_words_may_look_like_them(tmp_path):
    text = "# id = 1 of two\n# text = a b\na\tX\n#\tY\n\n# id = 2\nb\tX\n"
    assert read_conll(written(tmp_path, text))["tokens"][:] == [["a", "#"], ["b"]]
    text = "# id 1\na X\n# Y\n\n# a whole line\nb X\n"
    assert read_conll(written(tmp_path, text))["tokens"][:] == [["a", "#"], ["b"]]
    assert read_conll(written(tmp_path, "# X\na X\n"))["tokens"][:] == [["#", "a"]]


def test_one_column_has_no_tags(tmp_path):
    rows = read_conll(written(tmp_path, "a\nb\n\nc\n"))
    assert rows["tokens"][:] == [["a", "b"], ["c"]]
    assert "ner_tags" not in rows.column_names


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a X\nb\n", "line 2: 1 column, and line 1 has 2 (separated by spaces)"),
        ("\na\tX\nb\tX\tY\n", "line 3: 3 columns, and line 2 has 2 (separated by tabs)"),
        ("a X\n# not a word\n", "line 2: 4 columns"),
        ("a\tX\nb\t\n", "line 2: column 2 is empty"),
        ("\n-DOCSTART- O\n\n", "has no examples"),
    ],
)
def test_refuses_a_line_that_is_broken(tmp_path, text, says):
    with pytest.raises(UserError, match=re.escape(says)):
        read_conll(written(tmp_path, text))


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "train.conll").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot read"):
        read_conll(tmp_path / "train.conll")


def many(count):
    return "".join(f"w{i} NN O\nin IN O\nRome{i} NNP B-LOC\n\n" for i in range(count))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("train.conll", {}), ("train.iob", {}), ("train.bio.gz", {}),
        ("train.txt", {"layout": "conll"}), ("train.tsv", {"layout": "conll"}),
    ],
)  # fmt: skip
def test_which_files_are_read_so(tmp_path, name, settings):
    file = written(tmp_path / "data", many(40), name)
    if name.endswith(".gz"):
        file.write_bytes(gzip.compress(many(40).encode()))
    source = FileSource(name="own", path=str(tmp_path / "data"), **settings)
    data = prepare_data(source, TokenClassification().schema, tmp_path / "cache")
    assert data.label_names == ["B-LOC", "O"]
    assert sum(data.sizes.values()) == 40
    assert data.splits["test"][0]["text"][1] == "in"


def test_columns_by_number_and_any_name(tmp_path):
    files = {
        split: str(written(tmp_path / "data", many(20), f"eng.{split}"))
        for split in ("train", "test")
    }
    source = FileSource(name="own", path=files, layout="conll", text=1, label=2)
    task = TokenClassification()
    data = prepare_data(source, task.schema, tmp_path)
    assert data.label_names == ["IN", "NN", "NNP"]
    assert task.evaluator.metric_name == "accuracy"
    with pytest.raises(UserError, match=r"data\.label=5: train has no such column, it has tokens"):
        prepare_data(
            FileSource(name="o", path=files, layout="conll", label=5), task.schema, tmp_path
        )
    with pytest.raises(UserError, match=r"is none of .* data\.layout=conll reads any"):
        prepare_data(FileSource(name="own", path=files), task.schema, tmp_path)


def test_a_layout_that_cannot_be(tmp_path):
    written(tmp_path / "data", "{}", "train.jsonl")
    source = FileSource(name="own", path=str(tmp_path / "data"), layout="conll")
    with pytest.raises(UserError, match="has no words in lines"):
        source.read(tmp_path)
    with pytest.raises(UserError, match="choose auto, conll, table or text"):
        FileSource(name="own", path="x", layout="columns")
    with pytest.raises(UserError, match=r"data\.quotes says how csv"):
        FileSource(name="own", path="x", layout="conll", quotes=True)


def test_sentences_without_tags(tmp_path):
    written(tmp_path / "data", many(40))
    more = written(tmp_path, "a\nb\n\nRome1\nc\n\nw1\nin\nRome1\n", "more.conll")
    source = FileSource(name="own", path=str(tmp_path / "data"), unlabeled=str(more))
    data = prepare_data(source, TokenClassification().schema, tmp_path)
    # The third stands in train, or in what was cut from it.
    assert sorted(data.splits["unlabelled"]["text"][:]) == [["Rome1", "c"], ["a", "b"]]
    assert data.splits["unlabelled"]["label"][:] == [[], []]
