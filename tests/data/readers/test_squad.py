"""SQuAD's own files, as they are handed out."""

import gzip
import json

import pytest

from distill.core.errors import UserError
from distill.data.readers.squad import read_squad
from distill.data.sources.files import FileSource, read_file

ANSWERED = {
    "question": "Who?",
    "id": "a1",
    "answers": [{"text": "Ann", "answer_start": 0}, {"text": "Ann B", "answer_start": 0}],
}
UNANSWERED = {
    "question": "When?",
    "id": "a2",
    "answers": [],
    "is_impossible": True,
    "plausible_answers": [{"text": "B", "answer_start": 4}],
}
WHOLE = {
    "version": "v2.0",
    "data": [
        {"title": "x", "paragraphs": [{"qas": [ANSWERED, UNANSWERED], "context": "Ann B"}]},
        {"title": "y", "paragraphs": []},
        {"paragraphs": [{"context": "한국어 글", "qas": [ANSWERED | {"id": 7}]}]},
    ],
}
ROWS = [
    {
        "id": "a1",
        "question": "Who?",
        "context": "Ann B",
        "answers": {"text": ["Ann", "Ann B"], "answer_start": [0, 0]},
    },
    {
        "id": "a2",
        "question": "When?",
        "context": "Ann B",
        "answers": {"text": [], "answer_start": []},
    },
    {
        "id": "7",
        "question": "Who?",
        "context": "한국어 글",
        "answers": {"text": ["Ann", "Ann B"], "answer_start": [0, 0]},
    },
]


def test_every_question_is_a_row(tmp_path):
    file = tmp_path / "any.json"
    file.write_text("\ufeff" + json.dumps(WHOLE, ensure_ascii=False, indent=1), encoding="utf-8")
    assert read_file(file, tmp_path / "cache").to_list() == ROWS


def test_files_with_a_version_in_their_names_also_compressed(tmp_path):
    folder = tmp_path / "squad"
    folder.mkdir()
    (folder / "dev-v2.0.json").write_text(json.dumps(WHOLE))
    (folder / "train-v2.0.json.gz").write_bytes(gzip.compress(json.dumps(WHOLE).encode()))
    (folder / "evaluate-v2.0.py").write_text("")
    read = FileSource(name="squad", path=str(folder)).read(tmp_path / "cache")
    assert set(read) == {"train", "validation"}
    assert read["train"].to_list() == read["validation"].to_list() == ROWS
    # The same content is parsed once, wherever it stands.
    assert len(list((tmp_path / "cache" / "data").glob("squad-*[0-9a-f]"))) == 1


def test_impossible_questions_may_have_answers_that_are_only_plausible(tmp_path):
    file = tmp_path / "train.json"
    wrong = UNANSWERED | {"answers": UNANSWERED["plausible_answers"]}
    whole = {"data": [{"paragraphs": [{"context": "Ann B", "qas": [wrong]}]}]}
    file.write_text(json.dumps(whole))
    assert read_squad(file, tmp_path)[0]["answers"] == {"text": [], "answer_start": []}


@pytest.mark.parametrize(
    "text",
    [
        '[{"text": "a", "label": "b"}]',
        '{"text": "a", "label": "b"}\n{"text": "c", "label": "d"}\n',
        '{"text": "a", "paragraphs": "b"}\n{"text": "c", "paragraphs": "d"}\n',
    ],
)
def test_other_json_is_read_as_it_was(tmp_path, text):
    file = tmp_path / "train.json"
    file.write_text(text)
    assert read_squad(file, tmp_path) is None
    assert read_file(file, tmp_path)[0]["text"] == "a"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"answers": [{"text": "Ann"}]}, "question 2 lacks 'answer_start'"),
        ({"answers": "Ann"}, "question 2 is not as SQuAD's are"),
    ],
)
def test_what_is_missing_is_named(tmp_path, change, says):
    file = tmp_path / "train.json"
    qas = [ANSWERED, ANSWERED | change]
    file.write_text(json.dumps({"data": [{"paragraphs": [{"context": "Ann B", "qas": qas}]}]}))
    with pytest.raises(UserError, match=says):
        read_squad(file, tmp_path / "cache")


def test_no_question_at_all(tmp_path):
    file = tmp_path / "train.json"
    file.write_text('{"data": [{"paragraphs": []}]}')
    with pytest.raises(UserError, match="has no examples"):
        read_squad(file, tmp_path / "cache")


def test_a_file_that_is_cut_short(tmp_path):
    file = tmp_path / "train.json.gz"
    file.write_bytes(gzip.compress(json.dumps(WHOLE).encode())[:-20])
    with pytest.raises(UserError, match="cannot read"):
        read_squad(file, tmp_path / "cache")
