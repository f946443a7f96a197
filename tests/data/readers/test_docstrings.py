import itertools
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from distill.core.errors import UserError
from distill.data.readers import docstrings
from distill.data.readers.docstrings import (
    LIBRARIES,
    first_paragraph,
    load,
    normal_form,
    read_docstrings,
    split_of,
)

WORDS = ["apple", "brick", "cloud", "daisy", "eagle", "flute", "grape", "house"]
SHARED = "Open the shared door of the house."


def sentences(verb: str, count: int) -> list[str]:
    pairs = itertools.islice(itertools.permutations(WORDS, 2), count)
    return [f"{verb} the {first} of a given {second}." for first, second in pairs]


def write(file: Path, texts: list[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    functions = [f'def f{i}():\n    r"""{text}"""\n' for i, text in enumerate(texts)]
    # The invalid escape makes the parser warn.
    file.write_text("".join(['pattern = "\\d"\n', *functions]), encoding="utf-8")


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Two packages of 20 and 12 usable texts, which cannot be imported."""
    for package, verb, count in (("larch_lib", "Plant", 20), ("maple_lib", "Paint", 12)):
        root = tmp_path / package
        texts = sentences(verb, count)
        write(root / "__init__.py", [])
        (root / "__init__.py").write_text("raise RuntimeError('was imported')\n")
        write(root / "one.py", [*texts[::3], SHARED, f"Use the {package} in the usual way."])
        write(root / "two.py", [*texts[1::3], texts[0], "Too short.", "word " * 61])
        write(root / "sub" / "three.py", texts[2::3])
        for skipped in ("tests/helper.py", "_vendor/copied.py", "test_one.py", "conftest.py"):
            write(root / skipped, [f"{verb} no text of a test."])
        (root / "broken.py").write_text("def :\n")
    monkeypatch.syspath_prepend(tmp_path)
    return "larch_lib", "maple_lib"


def test_rows_are_balanced_and_exactly_the_usable_texts(packages: tuple[str, str]) -> None:
    rows = read_docstrings(packages, per_library=1000)
    assert Counter(row.label for row in rows) == {"larch_lib": 12, "maple_lib": 12}
    assert [row.label for row in rows] == ["larch_lib"] * 12 + ["maple_lib"] * 12
    assert {row.text for row in rows if row.label == "maple_lib"} == set(sentences("Paint", 12))
    assert {row.text for row in rows if row.label == "larch_lib"} < set(sentences("Plant", 20))
    assert len({row.text for row in rows}) == 24


def test_fewer_texts_are_a_part_of_more(packages: tuple[str, str]) -> None:
    # Files small enough that the same ones are read.
    few, many = (set(read_docstrings(packages, per_library=count)) for count in (9, 12))
    assert len(few) == 18
    assert few < many


@pytest.mark.parametrize("backwards", [False, True])
def test_the_order_of_the_file_system_does_not_matter(
    backwards: bool, packages: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = read_docstrings(packages, per_library=2)  # one file has enough
    walk = os.walk

    def ordered(root: Path):
        for folder, subfolders, names in walk(root):
            subfolders.sort(reverse=backwards)
            yield folder, subfolders, sorted(names, reverse=backwards)

    monkeypatch.setattr(docstrings.os, "walk", ordered)
    assert read_docstrings(packages, per_library=2) == rows


def test_the_order_in_a_file_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    file, texts = tmp_path / "oak_lib" / "__init__.py", sentences("Plant", 20)
    texts += [text.rstrip(".") for text in texts]  # near-duplicates: one of two is taken
    write(file, texts)
    rows = read_docstrings(["oak_lib"], per_library=5)
    write(file, texts[::-1])
    assert read_docstrings(["oak_lib"], per_library=5) == rows


def test_word_limits_are_inclusive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {count: " ".join(["Count", "the", *WORDS][:count]) for count in range(1, 8)}
    write(tmp_path / "oak_lib" / "__init__.py", list(texts.values()))
    monkeypatch.syspath_prepend(tmp_path)
    rows = read_docstrings(["oak_lib"], min_words=3, max_words=5)
    assert {row.text for row in rows} == {texts[3], texts[4], texts[5]}


@pytest.mark.parametrize(
    ("docstring", "paragraph"),
    [
        ("Sum of\n  the parts.\n\nMore.", "Sum of the parts."),
        ("Sum the parts.\nArgs:\n    x: part", "Sum the parts."),
        ("Sum the parts.\n\nParameters\n----------\nx : int", "Sum the parts."),
        ("Sum the parts.\n:param x: part", "Sum the parts."),
        ("Sum the parts.\n>>> total(1)", "Sum the parts."),
        ("Sum the parts:\n- one\n- two", "Sum the parts:"),
        ("x (`int`, *optional*):\n    Number of parts.", ""),
        (".. note:: Sum the parts.", ""),
        ("=====\nParts\n=====", ""),
        ("A :class:`~package.module.Part` and ``x``::", "A Part and x:"),
        ("A [`Part`], [linked](target.html), `named <target>`_ [1]_.", "A Part, linked, named."),
        ("A **strong** *word*, but f(*args, **kwargs).", "A strong word, but f(*args, **kwargs)."),
    ],
)
def test_first_paragraph(docstring: str, paragraph: str) -> None:
    assert first_paragraph(docstring) == paragraph


@pytest.mark.parametrize(
    "text",
    [
        "total(x, y) is the sum of all the parts",
        "x_1 = a[0] + b[1] * c_2 for all",
        "Return the sum \\sum_i x_i of all parts.",
        "Return the {part} of the whole of it.",
        "Read https://example.org for all of the details.",
        "Return the naïve sum of all the parts.",
        "Convert the parts to an np array first.",
        "Convert the parts to a PyTorch tensor first.",
        "Four words only here.",
    ],
)
def test_what_is_no_prose_or_names_a_library_is_left_out(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usable = "Return the sum of all the parts."
    for package, texts in (("oak_lib", [text, usable]), ("elm_lib", sentences("Plant", 2))):
        write(tmp_path / package / "__init__.py", texts)
    monkeypatch.syspath_prepend(tmp_path)
    rows = read_docstrings(["oak_lib", "elm_lib"])
    assert [row.text for row in rows if row.label == "oak_lib"] == [usable]


def test_the_rest_is_every_usable_text_that_load_leaves(packages, monkeypatch) -> None:
    monkeypatch.setattr(docstrings, "LIBRARIES", packages)
    usable = {*sentences("Plant", 20), *sentences("Paint", 12), SHARED}
    for per_library in (1, 5, 1000):
        taken = {row.text for row in read_docstrings(packages, per_library)}
        rest = docstrings.load_rest(taken)
        assert len(set(rest)) == len(rest)
        assert set(rest) == usable - taken
    # With 12 of each, one library is used up; what both share has no label, but is a text.
    assert SHARED in rest
    assert len(rest) == 9


def test_the_rest_has_no_near_duplicate_of_a_labelled_text(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(docstrings, "LIBRARIES", ("birch_lib",))
    texts = sentences("Plant", 12)
    # As one model's docstring is like another's: neither form nor split tells them apart.
    likes = [text.replace("given", "given XY_1") for text in texts]
    write(tmp_path / "birch_lib" / "__init__.py", [*texts, *likes])
    monkeypatch.syspath_prepend(tmp_path)
    taken = [row.text for row in read_docstrings(["birch_lib"], 4)]
    rest = docstrings.load_rest(taken)
    assert len(rest) == 8
    assert not set(map(normal_form, taken)) & set(map(normal_form, rest))


def test_no_file_is_parsed_twice(packages, monkeypatch) -> None:
    monkeypatch.setattr(docstrings, "LIBRARIES", packages)
    parsed: list[Path] = []
    parse = docstrings._docstrings
    monkeypatch.setattr(docstrings, "_docstrings", lambda file: parsed.append(file) or parse(file))
    paragraphs = docstrings.Paragraphs()
    labeled = [row["text"] for rows in load(5, paragraphs).values() for row in rows]
    before = len(parsed)
    assert before > 0
    rest = docstrings.load_rest(labeled, paragraphs)
    assert len(parsed) == len(set(parsed)) > before
    assert rest == docstrings.load_rest(labeled)  # the same as of a parse of its own


def test_near_duplicates_share_form_and_split() -> None:
    bert, gpt = "Constructs a BERT tokenizer.", "Constructs a fast_gpt GPT-2 tokenizer"
    assert normal_form(bert) == normal_form(gpt) == "constructs a tokenizer"
    assert split_of(bert) == split_of(gpt)
    assert normal_form("Constructs a tokenizer of words.") != normal_form(bert)


def test_split_is_stable_and_has_its_proportions() -> None:
    # Literal values: a change would move texts between the splits of finished experiments.
    assert split_of("Return the mean of an array.") == "train"
    assert split_of("Close the table.") == "validation"
    assert split_of("Open the file.") == "test"
    texts = [" ".join(words) for words in itertools.permutations(WORDS, 5)]
    counts = Counter(map(split_of, texts))
    assert counts["train"] / len(texts) == pytest.approx(0.6, abs=0.02)
    assert counts["validation"] / len(texts) == pytest.approx(0.1, abs=0.015)
    assert counts["test"] / len(texts) == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("missing", ["no_such_library", "bare_folder"])
def test_missing_library(missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "bare_folder" / "module.py", sentences("Plant", 3))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=rf"{missing}.*pip install 'distill\[demo\]'"):
        read_docstrings(["stdlib", missing])


def test_library_without_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "empty_lib" / "__init__.py", [])
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="empty_lib"):
        read_docstrings(["empty_lib"])


@pytest.mark.parametrize("numbers", [{"per_library": 0}, {"min_words": 0}, {"min_words": 61}])
def test_numbers_out_of_range(numbers: dict[str, int]) -> None:
    with pytest.raises(UserError, match="per_library"):
        read_docstrings(["stdlib"], **numbers)


def test_standard_library_and_numpy() -> None:
    rows = read_docstrings(["stdlib", "numpy"], per_library=100)
    assert Counter(row.label for row in rows) == {"stdlib": 100, "numpy": 100}
    assert len({normal_form(row.text) for row in rows}) == 200
    for text, _ in rows:
        assert 5 <= len(text.split()) <= 60
        assert not re.search(r"numpy|\bnp\b|`|\n|  ", text, re.IGNORECASE)


def test_load_runs_none_of_the_libraries() -> None:
    code = """
import json, sys
from distill.data.readers.docstrings import LIBRARIES, load
before = set(sys.modules)
splits = load(per_library=20)
print(json.dumps([splits, sorted(set(sys.modules) - before)]))
"""
    output = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    splits, imported = json.loads(output)
    packages = {"numpy", "scipy", "sklearn", "pandas", "torch", "transformers"}
    packages |= {"pytorch_lightning", "lightning_fabric"}
    assert not packages & {name.split(".")[0] for name in imported}
    assert splits == load(per_library=20)  # another process, another seed of hash()
    assert list(splits) == ["train", "validation", "test"]
    rows = [row for split in splits.values() for row in split]
    assert Counter(row["label"] for row in rows) == dict.fromkeys(LIBRARIES, 20)
    texts = [{normal_form(row["text"]) for row in split} for split in splits.values()]
    assert len(set.union(*texts)) == sum(map(len, texts)) == 160
