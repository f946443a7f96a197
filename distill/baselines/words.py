"""Linear models on words: what can be told without reading a text as a sequence."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from distill.baselines.base import WORDS, Baseline, BaselineData, Costs, StoredBaseline
from distill.baselines.features import (
    PAIR_FEATURES,
    Vocabulary,
    pair_vector,
    word_terms,
    words_and_pairs,
)
from distill.baselines.linear import LIBRARY_NAMES, Kind, Linear, Vector, as_matrix, fit_best
from distill.core.jagged import JaggedArray
from distill.data.columns import iter_chunks
from distill.data.dataset import DistillationDataset

# Maximum number of training examples, or words where these have labels: more take longer and
# change little. Prepared rows are in the order of a hash, so that the first are a random sample.
MAX_EXAMPLES = 100_000
# For words with labels the strengths that are tried are fewer: fits take a few seconds each.
TAG_STRENGTHS = (1.0, 10.0)
# Examples of which the typical number of operations is taken.
COUNTED_EXAMPLES = 500

PAIR = "text_pair"


class _Linear(StoredBaseline):
    """A vocabulary and a linear model on its terms.

    Args:
        name: what it is, for the report.
        vocabulary: terms and their weights.
        model: weights of the features.
    """

    def __init__(self, name: str, vocabulary: Vocabulary, model: Linear):
        self.name, self.vocabulary, self.model = name, vocabulary, model

    @abstractmethod
    def vectors(self, row: Mapping[str, Any]) -> list[Vector]:
        """Return the features of a row's predictions, of which there may be several."""

    def predict_row(self, row: Mapping[str, Any]) -> np.ndarray:
        """Return the logits of one row, ``(P, C)``."""
        return np.array([self.model.scores(vector) for vector in self.vectors(row)])

    def costs(self, examples: DistillationDataset) -> Costs:
        """Return the size, and the operations of the median of some examples."""
        assert examples.source is not None
        rows = examples.source.select(range(min(len(examples.source), COUNTED_EXAMPLES)))
        counts = [sum(len(indices) for indices, _ in self.vectors(row)) for row in iter_rows(rows)]
        return Costs(
            parameters=self.model.parameters,
            bytes=4 * self.model.parameters + self.vocabulary.bytes,
            multiply_accumulates=int(np.median(counts)) * self.model.weights.shape[1],
        )

    def save(self, folder: Path) -> None:
        """Write terms, weights and name."""
        self.vocabulary.save(folder)
        np.savez(folder / "model.npz", weights=self.model.weights, intercept=self.model.intercept)
        (folder / "name.json").write_text(json.dumps(self.name), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote."""
        with np.load(folder / "model.npz") as stored:
            model = Linear(stored["weights"], stored["intercept"])
        name = json.loads((folder / "name.json").read_text(encoding="utf-8"))
        return cls(name, Vocabulary.load(folder), model)


class LinearTextModel(_Linear):
    """A linear model on the words and pairs of words of a text or a pair of texts."""

    def vectors(self, row: Mapping[str, Any]) -> list[Vector]:
        """Return the features of one row."""
        return [text_vector(self.vocabulary, row)]

    def predict(self, examples: DistillationDataset) -> np.ndarray:
        """Return logits ``(N, C)``."""
        assert examples.source is not None
        return np.concatenate([self.predict_row(row) for row in iter_rows(examples.source)])


class LinearTagModel(_Linear):
    """A linear model on the form and the neighbors of each word."""

    def vectors(self, row: Mapping[str, Any]) -> list[Vector]:
        """Return the features of each word of a sentence."""
        return [self.vocabulary.vector(terms) for terms in word_terms(known_words(row)[0])]

    def predict(self, examples: DistillationDataset) -> JaggedArray:
        """Return logits of the words that the models read, ``(U, C)``."""
        assert examples.source is not None
        counts = examples.position_counts
        assert counts is not None
        parts = [np.empty((0, self.model.weights.shape[1]), dtype=np.float32)]
        for row, read in zip(iter_rows(examples.source), examples.student["word"][:], strict=True):
            if read:
                parts.append(self.predict_row(row)[read])
        return JaggedArray(np.concatenate(parts), counts)


class Words(Baseline):
    """TF-IDF of words and pairs of words, and logistic or ridge regression on it.

    Of two texts: the features of both, their products and their overlap; see
    :func:`~distill.baselines.features.pair_vector`. The strength of the L2 penalty is the one of
    four that scores best on validation.

    Args:
        kind: what the labels are.
    """

    role: ClassVar[str] = WORDS
    stored = LinearTextModel

    def __init__(self, kind: Kind):
        self.kind: Kind = kind

    @property
    def settings(self) -> list[str]:
        """The kind of labels."""
        return [*super().settings, self.kind]

    def fit(self, data: BaselineData) -> LinearTextModel:
        """Fit to the labeled training examples, at most ``MAX_EXAMPLES``."""
        source = data.train.source
        assert source is not None
        count = min(len(source), MAX_EXAMPLES)
        rows, labels = source.select(range(count)), data.train.label_values[:count]
        roles = [role for role in ("text", PAIR) if role in source.column_names]
        texts = [row[role] for row in iter_rows(rows) for role in roles]
        outputs = data.outputs * (3 if len(roles) > 1 else 1)
        vocabulary = Vocabulary.fit(texts, outputs, True, words_and_pairs)
        features = len(vocabulary) if len(roles) == 1 else 3 * len(vocabulary) + len(PAIR_FEATURES)

        def matrix(split: Iterable[Mapping[str, Any]]):  # type: ignore[no-untyped-def]  # noqa: ANN202
            return as_matrix([text_vector(vocabulary, row) for row in split], features)

        validation = matrix(iter_rows(data.validation.source))
        model, strength = fit_best(
            self.kind, matrix(iter_rows(rows)), labels, data.outputs,
            lambda model: data.score(validation @ model.weights + model.intercept),
        )  # fmt: skip
        name = _name("words", self.kind, strength)
        if count < len(source):
            name += f", fitted to {count:,} examples"
        return LinearTextModel(name, vocabulary, model)


class TagWords(Baseline):
    """Logistic regression on the form of each word (itself, its ends, its shape) and neighbors."""

    role: ClassVar[str] = WORDS
    stored = LinearTagModel

    def fit(self, data: BaselineData) -> LinearTagModel:
        """Fit to the words of the training examples, at most about ``MAX_EXAMPLES``."""
        assert data.train.source is not None
        documents: list[list[str]] = []
        labels: list[int] = []
        for row in iter_rows(data.train.source):
            words, tags = known_words(row)
            documents += word_terms(words)
            labels += tags
            if len(labels) >= MAX_EXAMPLES:
                break
        vocabulary = Vocabulary.fit(documents, data.outputs, False, list)
        train = as_matrix([vocabulary.vector(terms) for terms in documents], len(vocabulary))
        model, strength = fit_best(
            "categorical", train, np.asarray(labels), data.outputs,
            lambda model: data.score(
                LinearTagModel("", vocabulary, model).predict(data.validation)
            ),
            TAG_STRENGTHS,
        )  # fmt: skip
        return LinearTagModel(
            _name("words and neighbors", "categorical", strength), vocabulary, model
        )


def text_vector(vocabulary: Vocabulary, row: Mapping[str, Any]) -> Vector:
    """Return the features of a row with a text or a pair of texts."""
    first = vocabulary.vector(words_and_pairs(row["text"]))
    if row.get(PAIR) is None:
        return first
    return pair_vector(first, vocabulary.vector(words_and_pairs(row[PAIR])), len(vocabulary))


def known_words(row: Mapping[str, Any]) -> tuple[list[str], list[int]]:
    """Return the words of a sentence that are not white space, and their tags."""
    words, tags = row["text"], row["label"] or [-1] * len(row["text"])
    kept = [(word, tag) for word, tag in zip(words, tags, strict=True) if (word or "").strip()]
    return [word for word, _ in kept], [tag for _, tag in kept]


def iter_rows(rows: Any) -> Iterator[dict[str, Any]]:
    """Yield the rows of a split as dictionaries, a chunk in memory at a time."""
    for _, chunk in iter_chunks(rows, rows.column_names):
        names = list(chunk)
        for values in zip(*chunk.values(), strict=True):
            yield dict(zip(names, values, strict=True))


def _name(features: str, kind: Kind, strength: float) -> str:
    return f"{LIBRARY_NAMES[kind]} on {features}, C={strength:g}"
