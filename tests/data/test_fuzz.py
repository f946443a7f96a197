"""Drawn tables, trees and texts whose truth is known: read right, refused, or noted.

Never a traceback, never silently otherwise. The examples are the same in every run;
``FUZZ=2000 pytest tests/data/test_fuzz.py`` draws that many of all kinds together.
"""

import csv
import io
import json
import os
import re
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from distill.core.errors import UserError
from distill.data.prepare import prepare_data
from distill.data.readers.options import ReadingOptions
from distill.data.sources.files import FileSource, read_file
from distill.tasks.multi_label import MultiLabel
from distill.tasks.question_answering import QuestionAnswering
from distill.tasks.regression import Regression
from distill.tasks.sequence_classification import SequenceClassification
from distill.tasks.token_classification import TokenClassification

EXAMPLES = int(os.environ.get("FUZZ", "200"))
KINDS = 6


def drawn(*strategies: st.SearchStrategy):
    """Run a test on its share of the examples, the same ones every time."""
    count = max(1, EXAMPLES // KINDS)
    fixed = settings(
        max_examples=count, derandomize=True, deadline=None, database=None,
        phases=[Phase.generate],  # to make a failure smaller takes minutes
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    return lambda test: fixed(given(*strategies)(test))


# Notes that every file without splits of its own gets: they say nothing about how it was read.
ORDINARY = re.compile(r"There is no \w+ split|examples were not cut|also stand in train")

LETTERS = st.sampled_from([*"abcXYZ 019.,;|\t'\"\\/-#[]{}:é한ß\u00a0\u3000😀ﬁ\n", "\r\n"])
TEXTS = st.lists(LETTERS, max_size=12).map("".join)
NAMES = st.sampled_from([
    ("negative", "positive"), ("0", "1"), ("0", "1", "2"), ("긍정", "부정"), ("NA", "None", "yes"),
    ("a b", "c,d", 'e"f'), ("true", "false"), ("2020-01-01", "2021-12-31"), ("-1", "1"),
])  # fmt: skip


def outcome(task, folder, expected: dict, **options) -> str:
    """Prepare files and compare; return ``right``, ``noted``, or the refusal."""
    try:
        source = FileSource(name="d", path=str(folder), **options)
        data = prepare_data(source, task().schema, Path(folder).parent / "cache")
    except UserError as error:
        assert "\n" not in str(error) and str(error).strip()
        return f"refused: {error}"
    found = {}
    for rows in data.splits.values():
        for inputs, label in zip(rows["text"], rows["label"], strict=True):
            found[str(inputs)] = label_of(label, data.label_names)
    if found == expected:
        return "right"
    assert [note for note in data.notes if not ORDINARY.search(note)], (
        {key: (found.get(key), expected.get(key)) for key in found.keys() | expected.keys()
         if found.get(key) != expected.get(key)}, data.notes,
    )  # fmt: skip
    return "noted"


def label_of(label, names):
    if isinstance(label, dict):
        return label["text"]
    if isinstance(label, float):
        return label
    if isinstance(label, int):
        return names[label]
    if len(names) == len(label) and set(label) <= {0, 1} and not any("-" in n for n in names):
        return sorted(name for name, one in zip(names, label, strict=True) if one)
    return [names[tag] for tag in label]


# --- tables ---------------------------------------------------------------------------------------


@st.composite
def tables(draw):
    names = draw(NAMES)
    texts = draw(st.lists(TEXTS, min_size=24, max_size=30))
    rows = [(f"{text}w{index}", names[index % len(names)]) for index, text in enumerate(texts)]
    separator = draw(st.sampled_from(",,,;\t|"))
    suffix = draw(st.sampled_from(["csv", "tsv", "txt"] if separator == "\t" else ["csv"]))
    style = draw(st.sampled_from(["minimal", "all", "none"] if suffix == "csv" else ["none"]))
    if style == "none":
        banned = f'{separator}"\r\n' if suffix == "csv" else f"{separator}\r\n"
        rows = [
            tuple(re.sub(f"[{re.escape(banned)}]", " ", field) for field in row) for row in rows
        ]
    written = io.StringIO()
    header = ["text", "label"]
    form = draw(st.sampled_from(["plain", "plain", "index", "trailing", "label first", "bare"]))
    table = [list(row) for row in rows]
    if form == "index":
        header, table = ["", *header], [[str(i), *row] for i, row in enumerate(table)]
    elif form == "trailing":
        header, table = [*header, ""], [[*row, ""] for row in table]
    elif form == "label first":
        header, table = header[::-1], [row[::-1] for row in table]
    lines = table if form == "bare" else [header, *table]
    end = draw(st.sampled_from(["\n", "\r\n"]))
    if style == "none":
        written.write("".join(separator.join(line) + end for line in lines))
    else:
        quoting = csv.QUOTE_ALL if style == "all" else csv.QUOTE_MINIMAL
        csv.writer(written, delimiter=separator, quoting=quoting, lineterminator=end).writerows(
            lines
        )
    options = {"columns": ["text", "label"]} if form == "bare" else {}
    if draw(st.booleans()):
        options["delimiter"] = separator
    encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16"]))
    return f"train.{suffix}", written.getvalue(), encoding, dict(rows), options


def last_field(line, change):
    """Change what stands after a line's last separator."""
    pattern = r"(?<=[,;\t|])[^,;\t|]*?(?=\r?$)"
    return re.sub(pattern, lambda match: change(match[0]), line, count=1)


# Damage that is done to a line of a table whose last column is the label.
DAMAGE = {
    "none": lambda line: line,
    "open quote": lambda line: '"' + line,
    "stray quote": lambda line: line.replace('"', '" "', 1),
    "field too many": lambda line: line + ",;\t|more",
    "cut short": lambda line: line[: len(line) // 3],
    "doubled": lambda line: line + "\n" + line,
    "null": lambda line: line + "\0",
    "no label": lambda line: last_field(line, lambda label: ""),
    "case": lambda line: last_field(line, str.upper),
    "space": lambda line: last_field(line, " {} ".format),
    "zero": lambda line: last_field(line, "{}.0".format),
}  # fmt: skip


@drawn(tables(), st.sampled_from(sorted(DAMAGE)), st.floats(0.1, 0.95))
def test_tables(table, damage, place):
    name, content, encoding, expected, options = table
    lines = content.split("\n")
    # Not inside of a text of several lines, where it would be another text.
    whole = [
        index
        for index, line in enumerate(lines)
        if line.count('"') % 2 == 0 and "".join(lines[:index]).count('"') % 2 == 0
    ]
    where = whole[int(place * len(whole))]
    if not content.startswith("label"):
        lines[where] = DAMAGE[damage](lines[where])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_bytes("\n".join(lines).encode(encoding))
        result = outcome(SequenceClassification, file, expected, **options)
    if damage == "none":
        assert result == "right", result


@drawn(tables(), st.sampled_from(["cp949", "cp932", "latin-1", "utf-16-le", "utf-8"]), st.data())
def test_bytes(table, encoding, data):
    """Encodings that are not said, and bytes that are lost or changed."""
    name, content, _, _, options = table
    raw = bytearray(content.encode(encoding, errors="replace"))
    if encoding == "utf-8" or data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_bytes(bytes(raw))
        try:
            read_file(file, Path(folder) / "cache", ReadingOptions(**{
                key: tuple(value) if isinstance(value, list) else value
                for key, value in options.items()
            }))  # fmt: skip
        except UserError as error:
            assert "\n" not in str(error)


# --- trees ----------------------------------------------------------------------------------------

SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | TEXTS
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def as_json(rows, form):
    if form == "lines":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if form == "list":
        return json.dumps(rows, indent=1)
    return json.dumps({"version": "1", "data": rows})


LABELS = st.sampled_from([
    ("a", "b"), (0, 1), (0, 1, 2), ("0", 1, 2.0), (True, False), ("x", "y", "-"), (0, 1, 2, -1),
    ("a", "b", None), ("a", ""), (0.5, 1.5), ("a", 1), ("2020-01-01", "2020-01-02"), (["a"], ["b"]),
    ({"x": 1}, {"x": 2}), ("nan", "b"), (float("nan"), 1, 2),
])  # fmt: skip


@drawn(
    LABELS, st.lists(TEXTS, min_size=24, max_size=28), st.sampled_from(["lines", "list", "data"]),
    st.lists(TREES, max_size=4), st.booleans(),
)  # fmt: skip
def test_trees(labels, texts, form, extra, several):
    rows = [
        {"text": f"{text}w{index}", "label": labels[index % len(labels)]}
        | ({"extra": extra[index % len(extra)]} if extra else {})
        for index, text in enumerate(texts)
    ]
    expected = {row["text"]: class_of(row["label"], several) for row in rows}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"train.json{'l' * (form == 'lines')}"
        file.write_text(as_json(rows, form), encoding="utf-8", newline="")
        task = MultiLabel if several else SequenceClassification
        result = outcome(task, file, expected)
    if labels in (("a", "b"), ("2020-01-01", "2020-01-02")) and not several and not extra:
        assert result == "right", result


def class_of(label, several):
    """The class that a label means, whatever its type."""
    if several:
        if isinstance(label, list):
            return label
        return (
            [part.strip() for part in label.split(",") if part.strip()]
            if isinstance(label, str)
            else None
        )
    if isinstance(label, bool):
        return str(label)
    if isinstance(label, float) and label.is_integer():
        return str(int(label))
    return str(label)


@drawn(
    st.lists(st.floats(-30, 30, allow_nan=False).map(lambda x: round(x, 3)), min_size=24,
             max_size=30),
    st.sampled_from(["{}", "{:.3f}", " {} ", "{:e}", "{:+}"]), st.sampled_from(["", "nan", "x"]),
)  # fmt: skip
def test_numbers(numbers, form, odd):
    lines = [f"t{index},{form.format(number)}" for index, number in enumerate(numbers)]
    if odd:
        lines[7] = f"t7,{odd}"
    expected = {f"t{index}": float(form.format(x)) for index, x in enumerate(numbers)}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "train.csv"
        file.write_text("text,label\n" + "\n".join(lines))
        result = outcome(Regression, file, expected)
    assert result == "right" or result.startswith("refused")
    assert not odd or result.startswith("refused")


# --- sequences ------------------------------------------------------------------------------------

WORDS = st.lists(
    st.sampled_from(list("abZ9.,'\"-#é한\u00a0😀")), min_size=1, max_size=4
).map("".join)  # fmt: skip
SCHEMES = st.sampled_from([
    ("O", "B-X", "I-X"), ("O", "I-X", "B-X", "I-Y"), ("O", "X-B", "X-I"),
    ("O", "B-X", "E-X", "S-X"), ("NOUN", "VERB", "."), ("O", "X_B", "X_I"),
])  # fmt: skip


@drawn(
    st.lists(st.lists(WORDS, min_size=2, max_size=5), min_size=24, max_size=28), SCHEMES,
    st.sampled_from([" ", "\t"]), st.booleans(), st.booleans(),
    st.sampled_from(["none", "none", "missing", "extra", "empty"]),
)  # fmt: skip
def test_sequences(sentences, tags, separator, comments, universal, damage):
    separator = "\t" if universal else separator
    lines, expected = [], {}
    for index, words in enumerate(sentences):
        words = [*words, f"w{index}"]
        given_tags = [tags[(index + place) % len(tags)] for place in range(len(words))]
        expected[str(words)] = given_tags
        if comments:
            lines.append(f"# text = {' '.join(words)} and a comment")
        for place, (word, tag) in enumerate(zip(words, given_tags, strict=True), 1):
            if universal:
                if place == 2:
                    lines.append("\t".join(["2-3", "both", *"_" * 8]))
                lines.append("\t".join([str(place), word, "_", tag, *"_" * 6]))
            else:
                lines.append(f"{word}{separator}{tag}")
        lines.append("")
    if damage != "none":
        at = next(index for index, line in enumerate(lines) if index > 20 and line)
        parts = lines[at].split(separator)
        change = {"missing": parts[:-1], "extra": [*parts, "O"], "empty": [*parts[:-1], ""]}
        lines[at] = separator.join(change[damage])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / ("train.conllu" if universal else "train.conll")
        file.write_text("\n".join(lines), encoding="utf-8", newline="")
        result = outcome(TokenClassification, file, expected)
    if damage == "none":
        assert result == "right" or "the tag" in result, result


FLAGS = st.sampled_from([True, False, "true", "false", None])
FAULTS = st.sampled_from(["none", "absent", "text", "no answers"])


@drawn(st.lists(TEXTS, min_size=24, max_size=30), FLAGS, st.integers(-3, 3), FAULTS)
def test_questions(texts, impossible, shift, damage):
    paragraphs, expected = [], {}
    for index, text in enumerate(texts):
        answer = f"answer{index}"
        context = f"{text} {answer} {text}"
        question = {
            "id": str(index), "question": f"{text} q{index}?", "is_impossible": False,
            "answers": [{"text": answer, "answer_start": len(text) + 1 + shift * (index == 3)}],
        }  # fmt: skip
        if index % 5 == 4:
            question["is_impossible"] = impossible
        gone = str(question["is_impossible"]).lower() == "true"
        expected[question["question"]] = [] if gone else [answer]
        paragraphs.append({"context": context, "qas": [question]})
    broken = paragraphs[7]["qas"][0]
    if damage == "absent":
        broken["answers"][0]["text"] = "nowhere"
    elif damage == "text":
        broken["answers"] = broken["answers"][0]["text"]
    elif damage == "no answers":
        del broken["answers"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "train.json"
        file.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
        result = outcome(QuestionAnswering, file, expected)
    if "no question of" in result:  # the two that were cut for a split have none
        return
    assert result == "right" if damage == "none" else result.startswith("refused"), result
