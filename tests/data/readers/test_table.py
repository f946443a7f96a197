"""Tables as people write them: read as they are meant, refused with the line, or noted."""

import csv
import gzip
import io
import re

import pandas
import pytest

from distill.core.errors import UserError
from distill.data.readers.options import ReadingOptions
from distill.data.sources.files import FileSource, read_file

ROWS = [{"text": f"text {index}", "label": "ab"[index % 2]} for index in range(30)]
PLAIN = "text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in ROWS)


def lines(*others: str, header: str = "text,label") -> str:
    """A table whose last lines are given."""
    rows = [f"{row['text']},{row['label']}" for row in ROWS]
    return "\n".join([header, *rows, *others]) + "\n"


def read(tmp_path, content, name="train.csv", **options):
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    notes: list[str] = []
    rows = read_file(file, tmp_path / "cache", ReadingOptions(**options), notes)
    return rows.to_list(), notes


def refused(tmp_path, content, says, name="train.csv", **options):
    with pytest.raises(UserError, match=says) as caught:
        read(tmp_path, content, name, **options)
    assert "\n" not in str(caught.value)


# --- what is only written otherwise ---------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_line_ends_and_byte_order_marks(tmp_path, end, encoding):
    content = PLAIN.replace("\n", end).replace("text 0", "텍스트 é").encode(encoding)
    rows, notes = read(tmp_path, content)
    assert rows == [ROWS[0] | {"text": "텍스트 é"}, *ROWS[1:]]
    assert notes == []


@pytest.mark.parametrize("separator", [";", "\t", "|"])
@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_other_separators_are_found_and_said(tmp_path, separator, suffix):
    rows, notes = read(tmp_path, PLAIN.replace(",", separator), f"train.{suffix}")
    assert rows == ROWS
    assert bool(notes) == (suffix == "csv" or separator != "\t")
    given, notes = read(
        tmp_path, PLAIN.replace(",", separator), f"train.{suffix}", delimiter=separator
    )
    assert given == ROWS and not notes


def test_a_separator_in_texts_alone_is_none(tmp_path):
    content = "text\n" + "".join(f"a; b {index}\n" for index in range(20))
    rows, notes = read(tmp_path, content, delimiter=",")
    assert rows[3] == {"text": "a; b 3"} and not notes
    rows, notes = read(tmp_path, content)
    assert rows[3] == {"text": "a; b 3"} and not notes


@pytest.mark.parametrize("frame_index", [True, False])
def test_what_pandas_writes(tmp_path, frame_index):
    frame = pandas.DataFrame(ROWS)
    content = frame.to_csv(index=frame_index)
    rows, notes = read(tmp_path, content)
    assert [{"text": row["text"], "label": row["label"]} for row in rows] == ROWS
    assert notes == []
    if frame_index:
        assert rows[7]["1"] == "7"  # by its number, as columns without a name are


def test_row_names_that_the_header_has_no_name_for(tmp_path):
    content = "text,label\n" + "".join(
        f"{index},{row['text']},{row['label']}\n" for index, row in enumerate(ROWS, 1)
    )
    rows, notes = read(tmp_path, content)
    assert rows == ROWS
    assert "a field more than the header" in notes[0]


@pytest.mark.parametrize(("header", "row"), [(",", ","), ("", ","), (",", ""), (",,", ",,")])
def test_trailing_separators(tmp_path, header, row):
    content = f"text,label{header}\n" + "".join(
        f"{given['text']},{given['label']}{row}\n" for given in ROWS
    )
    rows, _ = read(tmp_path, content)
    assert [{"text": row["text"], "label": row["label"]} for row in rows] == ROWS


def test_empty_lines_and_an_end_without_a_line_end(tmp_path):
    rows, _ = read(tmp_path, "\n" + PLAIN.replace("\ntext 9", "\n\n  \ntext 9").rstrip("\n"))
    assert rows == ROWS


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
def test_quoted_fields(tmp_path, quoting):
    strange = [
        {"text": 'quotes "inside", commas', "label": "a"},
        {"text": "two\nlines", "label": "b"},
        {"text": '"', "label": "a"},
        {"text": "", "label": "b"},
        {"text": "null", "label": "NA"},
    ]
    written = io.StringIO()
    writer = csv.DictWriter(written, ["text", "label"], quoting=quoting)
    writer.writeheader()
    writer.writerows(ROWS + strange)
    rows, notes = read(tmp_path, written.getvalue())
    assert rows == ROWS + strange
    assert notes == []


def test_quotes_escaped_with_backslashes(tmp_path):
    rows, notes = read(tmp_path, lines('"he said \\"no, no\\" and a \\\\",a'))
    assert rows[-1] == {"text": 'he said "no, no" and a \\', "label": "a"}
    assert "line 32" in notes[0]
    # A backslash of another meaning: which one is meant is not certain.
    refused(tmp_path, lines('"he said \\"no, no\\" in C:\\new",a'), "line 32")


def test_a_long_field(tmp_path):
    rows, _ = read(tmp_path, lines(f"{'x' * 300_000},a"))
    assert len(rows[-1]["text"]) == 300_000


# --- quotes that do not match ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "broken", [['"open,a'], ['"open,a', "more,b", '"open again,a'], ['"a" b,a'], ['"""a,a', "x,b"]]
)
def test_open_quotes_are_read_as_they_stand_and_said(tmp_path, broken):
    rows, notes = read(tmp_path, lines(*broken, "last,b"))
    assert len(rows) == 30 + len(broken) + 1
    assert rows[30] == {"text": broken[0][: broken[0].rindex(",")], "label": broken[0][-1]}
    assert any("quotes are not closed (the first in line 32)" in note for note in notes)


@pytest.mark.parametrize("other", ['"quoted, with a comma",b', '"quoted",b'])
def test_an_open_quote_among_quoted_fields_is_refused(tmp_path, other):
    refused(tmp_path, lines(other, '"open,a', "last,b"), r"begins in line 33 .*data\.quotes=false")
    refused(tmp_path, lines('"open,a', other, "last,b"), "begins in line 32")


def test_with_quotes_asked_for_an_open_one_is_refused(tmp_path):
    refused(tmp_path, lines('"open,a', "last,b"), "begins in line 32", quotes=True)


@pytest.mark.parametrize("label_first", [False, True])
def test_rows_inside_a_quoted_field_are_noted(tmp_path, label_first):
    """An open quote that a stray one closes leaves a table of consistent rows."""
    swallowed = ['"open,a', "one,b", "two,a", 'five 5",b']
    content = lines(*swallowed, "last,b")
    if label_first:
        turned = [",".join(line.split(",")[::-1]) for line in content.strip().split("\n")]
        turned[31:35] = ['a,"open', "b,one", "a,two", 'b,five 5"']
        content = "\n".join(turned) + "\n"
    rows, notes = read(tmp_path, content)
    assert len(rows) == 32
    assert any(re.search(r"\d lines inside quoted fields look like rows", note) for note in notes)


def test_a_text_of_very_many_lines_is_noted(tmp_path):
    rows, notes = read(tmp_path, lines('"' + "\n".join(["a line"] * 60) + '",a'))
    assert rows[-1]["text"].count("\n") == 59
    assert any("50 lines or more (the longest 60, from line 32)" in note for note in notes)
    _, notes = read(tmp_path, lines('"' + "\n".join(["a line, short"] * 6) + '",a'))
    assert notes == []


# --- too many and too few fields ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("one, two,a", "line 32 has 3 fields and there are 2 columns .*quote fields"),
        ("cut sho", "line 32 has 1 field and there are 2 columns .*cut short"),
        ("a,b,c,d,e", "line 32 has 5 fields"),
    ],
)
def test_lines_that_do_not_fit(tmp_path, line, says):
    refused(tmp_path, lines(line), says)
    rows, notes = read(tmp_path, lines(line, "last,b"), bad_lines="drop")
    assert rows == [*ROWS, {"text": "last", "label": "b"}]
    assert "1 lines with another number of fields" in notes[0] and "line 32" in notes[0]


def test_a_shifted_table_is_not_taken_for_row_names(tmp_path):
    content = "text,label\n" + "".join(f"a, {row['text']},{row['label']}\n" for row in ROWS)
    refused(tmp_path, content, "line 2 has 3 fields")


@pytest.mark.parametrize(
    ("header", "says"), [("text,text", "'text' twice"), ("label,text,label", "'label' twice")]
)
def test_a_name_that_stands_twice(tmp_path, header, says):
    rows = "".join(",".join("x" * header.count(",")) + ",y\n" for _ in range(3))
    refused(tmp_path, f"{header}\n{rows}", says)


# --- no header ------------------------------------------------------------------------------------

BARE = "".join(f"{row['text']}\t{row['label']}\n" for row in ROWS)


def test_columns_without_a_header(tmp_path):
    rows, _ = read(tmp_path, BARE, "train.tsv", columns=("text", "label"))
    assert rows == ROWS
    rows, _ = read(tmp_path, BARE, "train.tsv", header=False)
    assert rows[0] == {"1": "text 0", "2": "a"}
    # A file that has a header keeps it.
    rows, _ = read(tmp_path, "text\tlabel\n" + BARE, "train.tsv", columns=("text", "label"))
    assert rows == ROWS
    rows, _ = read(tmp_path, "id\ttext\n1\tx\n", "test.tsv", columns=("text", "label"))
    assert rows == [{"id": "1", "text": "x"}]


def test_a_header_that_columns_would_make_a_row_of(tmp_path):
    content = "Sentence\tPolarity\n" + BARE
    refused(tmp_path, content, "looks like a header", "train.tsv", columns=("text", "label"))
    rows, _ = read(tmp_path, content, "train.tsv", columns=("text", "label"), header=True)
    assert rows == ROWS
    rows, _ = read(tmp_path, content, "train.tsv", columns=("text", "label"), header=False)
    assert len(rows) == 31


@pytest.mark.parametrize("names", [("text",), ("a", "b", "c")])
def test_the_wrong_number_of_columns(tmp_path, names):
    refused(tmp_path, BARE, f"names {len(names)} columns, and line 1 has 2", "train.tsv",
            columns=names)  # fmt: skip


# --- encodings and other kinds of files -----------------------------------------------------------

FOREIGN = {
    "cp949": "이 영화는 정말 재미있어요",
    "cp932": "とても面白かったです",
    "gb18030": "这部电影很好看",
    "cp1251": "очень хороший фильм",
    "cp1252": "Très bon, à voir",
}


@pytest.mark.parametrize("encoding", FOREIGN)
@pytest.mark.parametrize("suffix", ["csv", "tsv", "txt", "jsonl", "conll"])
def test_the_encoding_is_named_and_can_be_given(tmp_path, encoding, suffix):
    text = FOREIGN[encoding].replace(",", "")
    content = {
        "csv": f"text,label\n{text},a\n", "tsv": f"text\tlabel\n{text}\ta\n", "txt": f"{text}\n",
        "jsonl": f'{{"text": "{text}"}}\n', "conll": f"{text.replace(' ', '')} O\n",
    }[suffix].encode(encoding)  # fmt: skip
    refused(tmp_path, content, rf"is not UTF-8; it looks like {encoding}: set data\.encoding="
            rf"{encoding}", f"train.{suffix}")  # fmt: skip
    rows, _ = read(tmp_path, content, f"train.{suffix}", encoding=encoding)
    read_text = rows[0].get("text") or rows[0]["tokens"][0]
    assert read_text in (text, text.replace(" ", ""))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (PLAIN.encode("utf-16-le"), "looks like UTF-16: set data.encoding=utf-16-le"),
        (PLAIN.encode("utf-16-be"), "looks like UTF-16: set data.encoding=utf-16-be"),
        (PLAIN.replace("text 9,", "text \0,").encode(), "line 11 holds a NUL byte"),
        (PLAIN.encode() + b"\xec\x9d", "ends in the middle of a character"),
        (PLAIN.encode()[:40] + b"\xff" + PLAIN.encode()[40:], "byte 0xff in line 5 is not UTF-8"),
        (gzip.compress(PLAIN.encode()), "compressed with gzip, call it .gz"),
        (b"PK\x03\x04rest", "a zip file or a spreadsheet"),
        (b"PAR1rest", "a parquet file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "run git lfs pull"),
        (b"<!DOCTYPE html>\n<html>", "a page of HTML"),
        (b"", "is empty"),
        (b"\n\n", "is empty"),
    ],
)
def test_files_of_another_kind(tmp_path, content, says):
    refused(tmp_path, content, re.escape(says))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"encoding": "klingon"}, r"data\.encoding=klingon: there is no such encoding"),
        ({"delimiter": "::"}, r"data\.delimiter=::: it must be one character"),
        ({"delimiter": "a"}, "must be one character"),
        ({"delimiter": '"'}, "must be one character"),
        ({"columns": []}, "names no column"),
        ({"columns": ["a", "b", "a"]}, "'a' stands twice"),
        ({"bad_lines": "keep"}, "choose error or drop"),
        ({"layout": "text", "columns": ["a"]}, r"data\.columns says how csv and tsv are read"),
        ({"layout": "conll", "delimiter": ";"}, r"data\.delimiter says how"),
    ],
)
def test_options_that_cannot_be(options, says):
    with pytest.raises(UserError, match=says):
        FileSource(name="d", path="x", **options)


UNHEEDED = [
    (option, value, suffix)
    for option, value in {
        "columns": ["text", "label"], "delimiter": ";", "header": True, "quotes": True,
        "bad_lines": "drop", "encoding": "cp949",
    }.items()
    for suffix in ("jsonl", "txt", "conll", "parquet")
    # A txt file with them is a table, and other files are text.
    if (suffix != "txt" or option not in ("delimiter", "header"))
    and (suffix == "parquet" or option != "encoding")
]  # fmt: skip


@pytest.mark.parametrize(("option", "value", "suffix"), UNHEEDED)
def test_options_that_no_file_heeds(tmp_path, option, value, suffix):
    content = {"jsonl": '{"text": "a", "label": "b"}\n', "txt": "a\nb\n", "conll": "a O\n"}
    if suffix == "parquet":
        pandas.DataFrame(ROWS).to_parquet(tmp_path / "train.parquet")
    else:
        (tmp_path / f"train.{suffix}").write_text(content[suffix])
    source = FileSource(name="d", path=str(tmp_path), **{option: value})
    with pytest.raises(UserError, match=rf"data\.{option}=.* there are none"):
        source.read(tmp_path / "cache")


def test_notes_come_again_with_what_was_read_before(tmp_path):
    first = read(tmp_path, PLAIN.replace(",", ";"))
    assert read(tmp_path, PLAIN.replace(",", ";")) == first
    assert first[1]
