"""Entities as the field counts them: seqeval's answers, and a slow `conlleval`."""

import random

import numpy as np
import pytest

from distill.core.errors import UserError
from distill.metrics.entities import TagScheme

TYPED = ["O", *(f"{letter}-{kind}" for kind in ("LOC", "PER", "A-B") for letter in "BIES")]
SETS = {
    "bio": ["B-LOC", "B-PER", "I-LOC", "I-PER", "O"],
    "bioes": TYPED,
    "no outside": ["B-LOC", "I-LOC", "I-PER"],
    "untyped": ["B", "I", "O"],
}


def slow(tags):
    """Word by word, as `conlleval` goes: (first, last, type) of each entity."""
    found, open_since = [], None
    for index, tag in enumerate([*tags, "O"]):
        kind, _, name = tag.partition("-")
        before = tags[index - 1] if index else "O"
        before_kind, _, before_name = before.partition("-")
        ends = before_kind in ("E", "S") or kind in ("B", "S", "O") or name != before_name
        if open_since is not None and ends:
            found.append((open_since, index - 1, before_name))
            open_since = None
        if kind != "O" and open_since is None:
            open_since = index
    return found


def draws(tags, count, seed):
    draw = random.Random(seed)
    return [draw.choices(tags, k=draw.randint(1, 9)) for _ in range(count)]


def fast(scheme, tags, sentences):
    flat = np.array([tags.index(tag) if tag in tags else -1 for s in sentences for tag in s])
    begins = np.array([i == 0 for s in sentences for i in range(len(s))])
    return scheme.entities(flat, begins)


@pytest.mark.parametrize("tags", SETS.values(), ids=SETS)
def test_any_sequence_is_cut_as_conlleval_cuts_it(tags):
    scheme, sentences = TagScheme.of(tags), draws(tags, 400, 1)
    found = fast(scheme, tags, sentences)
    expected, start = [], 0
    for sentence in sentences:
        expected += [(a + start, b + start, t or "entity") for a, b, t in slow(sentence)]
        start += len(sentence)
    names = [scheme.names[kind] for kind in found.types]
    assert list(zip(found.first, found.last, names, strict=True)) == expected
    begun = [tag for sentence in sentences for tag in sentence]
    assert found.implicit.tolist() == [begun[first][0] in "IE" for first in found.first]


@pytest.mark.parametrize("name", ["bio", "bioes", "untyped"])
def test_seqeval_counts_the_same_entities(name):
    seqeval = pytest.importorskip("seqeval.metrics.sequence_labeling")
    tags = SETS[name]
    scheme, sentences = TagScheme.of(tags), draws(tags, 400, 2)
    found = fast(scheme, tags, sentences)
    # It joins sentences with an O between them.
    place = np.cumsum([1 + (i == 0) for s in sentences for i in range(len(s))]) - 2
    entities = {
        (place[first], place[last]) for first, last in zip(found.first, found.last, strict=True)
    }
    expected = {(first, last) for _, first, last in seqeval.get_entities(sentences)}
    assert entities == expected


def test_other_letters_of_the_same_schemes():
    sentences = [["B-X", "M-X", "L-X", "U-X", "U-X", "O", "I-X"]]
    tags = sorted(set(sentences[0]))
    found = fast(TagScheme.of(tags), tags, sentences)
    assert list(zip(found.first, found.last, strict=True)) == [(0, 2), (3, 3), (4, 4), (6, 6)]


def test_what_marks_no_entities():
    for tags in (["NOUN", "VERB"], ["NN", "-LRB-", "O"], ["1", "2"], ["S-1", "O"], ["A", "B"]):
        assert TagScheme.of(tags) is None


@pytest.mark.parametrize(
    "tags", [["B-X", "I-X", "O", "B"], ["O", "B-PER", "X-PER"], ["B-X", "I-", "O"], ["B", "I", "N"]]
)
def test_a_tag_that_is_none_is_named(tags):
    if tags == ["B", "I", "N"]:  # nothing of it is a scheme
        assert TagScheme.of(tags) is None
        return
    with pytest.raises(UserError, match=r"the tag '(B|X-PER|I-)' stands among tags of entities"):
        TagScheme.of(tags)
