"""JSON in the shapes that it comes in, its values unchanged."""

import json

import pytest

from distill.core.errors import UserError
from distill.data.sources.files import read_file

ROWS = [{"text": f"text {index}", "label": index % 2} for index in range(5)]


def read(tmp_path, content, name="train.json"):
    file = tmp_path / name
    file.write_text(content, encoding="utf-8")
    notes: list[str] = []
    return read_file(file, tmp_path / "cache", notes=notes).to_list(), notes


def per_line(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.jsonl", per_line(ROWS)),
        ("train.json", per_line(ROWS)),
        ("train.json", json.dumps(ROWS)),
        ("train.json", json.dumps(ROWS, indent=2)),
        ("train.json", json.dumps({"version": "1", "data": ROWS})),
        ("train.json", json.dumps({"version": "1", "data": ROWS}, indent=2)),
        ("train.jsonl", "\ufeff" + per_line(ROWS).replace("\n", "\r\n\r\n")),
        (
            "train.json",
            json.dumps(
                {name: {str(i): row[name] for i, row in enumerate(ROWS)} for name in ROWS[0]}
            ),
        ),
    ],
)
def test_shapes(tmp_path, name, content):
    assert read(tmp_path, content, name) == (ROWS, [])


@pytest.mark.parametrize(
    "values",
    [
        ["2020-01-01", "2020-01-02"],
        ["2020-01-01T10:00:00", "1999-12-31"],
        ["12:30", "13:00"],
        ["1", "2"],
        ["true", "false"],
        ["null", "NaN"],
    ],
)
def test_texts_stay_texts(tmp_path, values):
    rows, _ = read(tmp_path, per_line({"text": value} for value in values))
    assert [row["text"] for row in rows] == values


@pytest.mark.parametrize(
    ("values", "read_as"),
    [
        ([0, "1", 2], ["0", "1", "2"]),
        ([1.5, "x"], ["1.5", "x"]),
        ([True, "no"], ["true", "no"]),
        ([True, 3], ["true", "3"]),
        ([10**30, 1], [str(10**30), "1"]),
    ],
)
@pytest.mark.parametrize("apart", [False, True])
def test_a_column_of_several_kinds_is_text(tmp_path, values, read_as, apart, monkeypatch):
    if apart:
        monkeypatch.setattr("distill.data.readers.json_rows.CHUNK_ROWS", 1)
    rows, notes = read(tmp_path, per_line({"text": "a", "label": value} for value in values))
    assert [row["label"] for row in rows] == read_as
    assert "'label'" in notes[0]


def test_numbers_and_nothing(tmp_path):
    rows, notes = read(tmp_path, '{"a": 1}\n{"a": 2.5}\n{"a": null}\n{}\n{"a": NaN}\n')
    values = [row["a"] for row in rows]
    assert values[:4] == [1.0, 2.5, None, None] and values[4] != values[4]
    assert notes == []


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("train.jsonl", '{"a": 1}\n{"a": \n', "line 2 is no JSON object"),
        ("train.jsonl", '{"a": 1}\n[1]\n', "line 2 is no JSON object but"),
        ("train.json", '[{"a": 1}, 3]', "entry 2 is no object"),
        ("train.json", '{"a": [\n{"b": 1},\n{]}', "line 3: it is no JSON"),
        ("train.json", '"text"', "no list of objects"),
        ("train.json", '{"train": [{"a": 1}], "test": [{"a": 1}]}', "rows are a list of objects"),
        ("train.jsonl", '{"a": [1]}\n{"a": "x"}\n', "the column 'a' holds lists of numbers and"),
        ("train.jsonl", '{"a": {"b": 1}}\n{"a": 1}\n', "the column 'a' holds numbers and records"),
        ("train.jsonl", '{"a": "\\ud800"}\n', "half a character"),
        ("train.jsonl", "\n\n", "has no examples"),
        ("train.json", "[]", "has no examples"),
        ("train.jsonl", "[" * 100_000, "line 1 is no JSON object"),
    ],
)
def test_refuses(tmp_path, name, content, says):
    with pytest.raises(UserError, match=says) as caught:
        read(tmp_path, content, name)
    assert "\n" not in str(caught.value)
