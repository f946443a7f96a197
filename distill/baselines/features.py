"""Features of texts, pairs of texts and words in sentences, by a vocabulary."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.baselines.linear import Vector

# Ideographs and kana, which are written without spaces: each is a word of its own, as BERT's
# tokenizer has it; else letters, digits and the underscore; else a single sign.
_IDEOGRAPHS = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
WORD = re.compile(rf"[{_IDEOGRAPHS}]|[^\W{_IDEOGRAPHS}]+|[^\w\s]")
# From this number of texts on, a term has to occur in two of them.
FREQUENT_FROM = 1000
# Maximum number of words of a text.
MAX_WORDS = 1000
# Maximum number of weights, which is the number of features times that of outputs.
MAX_WEIGHTS = 20_000_000


def words_and_pairs(text: str) -> list[str]:
    """Return the words of a text in lower case, and each two that follow each other.

    Of a long text the first ``MAX_WORDS`` words.
    """
    words = [match[0] for match in islice(WORD.finditer(text.lower()), MAX_WORDS)]
    return words + [f"{first} {second}" for first, second in pairwise(words)]


@dataclass(frozen=True)
class Vocabulary:
    """Terms and their weights.

    Attributes:
        ids: index of each term.
        idf: inverse document frequency of each term, ``(V,)``; ``None``: terms count as 0 or 1.
    """

    ids: dict[str, int]
    idf: NDArray[np.float64] | None

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def fit(
        cls,
        documents: Sequence[Any],
        outputs: int,
        weighted: bool,
        analyzer: Callable[[Any], Sequence[str]],
    ) -> Vocabulary:
        """Collect the terms of documents.

        Args:
            documents: texts, or whatever the analyzer takes.
            outputs: number of outputs of the linear model, which bounds the number of terms.
            weighted: whether terms are weighted by their inverse document frequency.
            analyzer: returns the terms of a document.
        """
        from sklearn.feature_extraction.text import TfidfVectorizer  # slow to import

        vectorizer = TfidfVectorizer(
            analyzer=analyzer, max_features=max(1000, MAX_WEIGHTS // outputs)
        )
        for least in (2, 1) if len(documents) >= FREQUENT_FROM else (1,):
            try:
                vectorizer.set_params(min_df=least).fit(documents)
            except ValueError:  # no term is that frequent
                continue
            terms = sorted(vectorizer.vocabulary_, key=vectorizer.vocabulary_.__getitem__)
            ids = {term: index for index, term in enumerate(terms)}
            return cls(ids, vectorizer.idf_ if weighted else None)
        return cls({}, np.empty(0) if weighted else None)

    def vector(self, terms: Sequence[str]) -> Vector:
        """Return the known terms of a document.

        With weights :math:`(1 + \\log tf) \\cdot idf`, scaled to the Euclidean norm 1, as
        scikit-learn's ``TfidfVectorizer(sublinear_tf=True)``; without weights 1 for each.
        """
        counts = Counter(index for term in terms if (index := self.ids.get(term)) is not None)
        indices = np.fromiter(counts, np.int64, len(counts))
        if self.idf is None:
            return indices, np.ones(len(indices))
        values = np.fromiter(counts.values(), np.float64, len(counts))
        values = (1 + np.log(values)) * self.idf[indices]
        norm = float(np.sqrt(values @ values))
        return indices, values / (norm or 1.0)

    @property
    def bytes(self) -> int:
        """Bytes of the terms as lines of UTF-8, and of their weights in fp32."""
        terms = sum(len(term.encode()) + 1 for term in self.ids)
        return terms + (0 if self.idf is None else 4 * len(self.idf))

    def save(self, folder: Path) -> None:
        """Write into an existing folder."""
        terms = json.dumps(list(self.ids), ensure_ascii=False)
        (folder / "terms.json").write_text(terms, encoding="utf-8")
        if self.idf is not None:
            np.save(folder / "idf.npy", self.idf)

    @classmethod
    def load(cls, folder: Path) -> Vocabulary:
        """Read what :meth:`save` wrote."""
        terms = json.loads((folder / "terms.json").read_text(encoding="utf-8"))
        file = folder / "idf.npy"
        idf = np.load(file) if file.is_file() else None
        return cls({term: index for index, term in enumerate(terms)}, idf)


# Of a pair of texts beside those of single words.
PAIR_FEATURES = ("cosine", "jaccard", "share of the first", "share of the second", "length ratio")


def pair_vector(first: Vector, second: Vector, size: int) -> Vector:
    """Return the features of a pair of texts.

    The features of the first text, those of the second, their products (of what both have), and
    the five numbers of ``PAIR_FEATURES``, which measure the overlap: cosine of the two texts,
    terms in common over all terms, over the first's and over the second's, and the smaller number
    of terms over the larger.

    Args:
        first: as :meth:`Vocabulary.vector` returns it.
        second: likewise.
        size: size V of the vocabulary; the result has 3 V + 5 features.
    """
    shared, left, right = np.intersect1d(
        first[0], second[0], assume_unique=True, return_indices=True
    )
    products = first[1][left] * second[1][right]
    sizes = len(first[0]), len(second[0])
    either = sizes[0] + sizes[1] - len(shared)
    overlap = [
        float(products.sum()),
        len(shared) / max(either, 1),
        len(shared) / max(sizes[0], 1),
        len(shared) / max(sizes[1], 1),
        min(sizes) / max(*sizes, 1),
    ]
    indices = [first[0], second[0] + size, shared + 2 * size, 3 * size + np.arange(len(overlap))]
    return np.concatenate(indices), np.concatenate([first[1], second[1], products, overlap])


def word_terms(words: Sequence[str]) -> list[list[str]]:
    """Return terms that describe each word of a sentence: its form and its neighbors."""
    lower = ["<s>", *(word.lower() for word in words), "</s>"]
    shapes = ["", *map(_shape, words), ""]
    return [
        [
            f"w {here}",
            f"p {here[:3]}",
            f"s {here[-3:]}",
            f"s2 {here[-2:]}",
            f"f {shapes[i]}",
            f"-1 {lower[i - 1]}",
            f"+1 {lower[i + 1]}",
            f"f- {shapes[i - 1]} {shapes[i]}",
            f"f+ {shapes[i]} {shapes[i + 1]}",
            f"-1w {lower[i - 1]} {here}",
            f"w+1 {here} {lower[i + 1]}",
        ]
        for i, here in enumerate(lower[1:-1], 1)
    ]


_SHAPE: Sequence[tuple[Callable[[str], bool], str]] = (
    (str.isdigit, "0"), (str.isupper, "A"), (str.islower, "a"), (str.isalpha, "x"),
)  # fmt: skip


def _shape(word: str) -> str:
    """Return the kinds of a word's signs, repeated ones once: ``Room-12`` -> ``Aa-0``."""
    kinds = [next((kind for is_kind, kind in _SHAPE if is_kind(sign)), sign) for sign in word]
    return "".join(kind for i, kind in enumerate(kinds) if i == 0 or kind != kinds[i - 1])
