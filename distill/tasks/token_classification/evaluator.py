"""Metrics of entities and of single words."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from distill.core.jagged import JaggedArray
from distill.data.dataset import DistillationDataset
from distill.metrics import classification
from distill.metrics.base import CountMetric, Floats, Metric
from distill.metrics.entities import EntitySpans
from distill.tasks import class_labels
from distill.tasks.evaluator import CalibrationSamples, Evaluator, PerClass
from distill.tasks.token_classification.rows import flatten_rows
from distill.tasks.token_classification.schema import TagSchema

Counts = NDArray[np.int64]


class TokenClassificationEvaluator(Evaluator[JaggedArray]):
    """Precision, recall and F1 of entities; accuracy and macro F1 of words where there are none.

    Args:
        schema: knows what the tags mark, and with it the selection metric.
        per_class: whether to report the scores of every entity type, or class.
    """

    selection_metrics = ("f1", "accuracy", "macro_f1")

    def __init__(self, schema: TagSchema, per_class: bool = False):
        self.schema = schema  # before the base class sets metric_name
        super().__init__(schema.metric, per_class)

    @property
    def metric_name(self) -> str:
        """The selection metric, which depends on the tags."""
        return self.schema.metric

    @metric_name.setter
    def metric_name(self, name: str) -> None:
        assert name == self.schema.metric

    @property
    def all_metrics(self) -> Sequence[Metric]:
        """Metrics of entities, or of words."""
        return _WORD_METRICS if self.schema.scheme is None else _ENTITY_METRICS

    def metric_inputs(
        self, logits: JaggedArray, examples: DistillationDataset
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return counts per sentence.

        Returns:
            Where tags mark entities: correct entities, predicted entities and correct words
            ``(N, 3)``; true entities and words ``(N, 2)``. Else for each class the correct and the
            predicted words, ``(N, 2C)``; and the true ones ``(N, C)``.
        """
        words = self._predict_words(logits, examples)
        if self.schema.scheme is None:
            hits, predicted, labeled = words.count_by_class(logits.shape[1])
            return np.concatenate([hits, predicted], axis=1), labeled
        found, true = self._entities(words)
        correct = words.predicted == words.tags
        counts = [
            words.count(found.first[found.among(true)]), words.count(found.first),
            words.count(np.flatnonzero(correct)),
        ]  # fmt: skip
        return np.stack(counts, 1), np.stack([words.count(true.first), words.counts], 1)

    def _predict_words(self, logits: JaggedArray, examples: DistillationDataset) -> "_Words":
        tags, begins, counts = flatten_rows(examples.student["tags"][:])
        predicted = np.full(len(tags), self.schema.outside)
        read, _, read_counts = flatten_rows(examples.student["word"][:])
        starts = np.repeat(np.cumsum(counts) - counts, read_counts)
        predicted[read + starts] = logits.values.argmax(-1)
        return _Words(tags, predicted, begins, counts)

    def _entities(self, words: "_Words") -> tuple[EntitySpans, EntitySpans]:
        """Return the predicted and the true entities."""
        scheme = self.schema.scheme
        assert scheme is not None
        return (
            scheme.entities(words.predicted, words.begins),
            scheme.entities(words.tags, words.begins),
        )

    def calibration(self, logits: JaggedArray, labels: JaggedArray) -> dict[str, float]:
        """Return the calibration over the words that are read."""
        return class_labels.classification_calibration(logits.values, labels.values)

    def calibration_samples(
        self, logits: JaggedArray, examples: DistillationDataset
    ) -> CalibrationSamples:
        """Return a prediction of each word that is read; those of a sentence belong together."""
        sentences = np.repeat(np.arange(len(logits.counts)), logits.counts)
        return CalibrationSamples.from_logits(logits.values, examples.label_values, sentences)

    def categorical_logits(
        self, logits: JaggedArray, examples: DistillationDataset
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the distribution over the tags of each word that is read."""
        return logits.values, examples.label_values

    def fidelity(self, logits: JaggedArray, teacher: JaggedArray) -> dict[str, float | None]:
        """Return the share of equal tags and the KL divergence, over the words that are read."""
        return class_labels.classification_fidelity(logits.values, teacher.values)

    def constant_prediction(
        self, logits: JaggedArray, examples: DistillationDataset, names: Sequence[str]
    ) -> str | None:
        """Return the only tag that is predicted."""
        predicted = logits.values.argmax(axis=-1)
        return class_labels.constant_class(predicted, names, "the tag {} for every word")

    def per_class_scores(
        self, logits: JaggedArray, examples: DistillationDataset, names: Sequence[str]
    ) -> PerClass:
        """Return the scores of each entity type or, without entities, each class of words."""
        words = self._predict_words(logits, examples)
        if self.schema.scheme is None:
            hits, predicted, labeled = words.count_by_class(len(names))
            return classification.per_class_scores_from_counts(
                hits.sum(axis=0), predicted.sum(axis=0), labeled.sum(axis=0), names
            )
        found, true = self._entities(words)
        names = self.schema.scheme.names

        def count(types: np.ndarray) -> np.ndarray:
            return np.bincount(types, minlength=len(names))

        return classification.per_class_scores_from_counts(
            count(found.types[found.among(true)]), count(found.types), count(true.types), names
        )


class _Words:
    """All words of a split, sentence after sentence.

    Attributes:
        tags: true tags, ``(W,)``.
        predicted: predicted tags, ``(W,)``; -1: none.
        begins: which words begin a sentence, ``(W,)``.
        counts: number of words of each sentence, ``(N,)``.
    """

    def __init__(
        self, tags: np.ndarray, predicted: np.ndarray, begins: np.ndarray, counts: np.ndarray
    ):
        self.tags, self.predicted, self.begins, self.counts = tags, predicted, begins, counts
        self.sentence = np.repeat(np.arange(len(counts)), counts)

    def count(self, words: np.ndarray) -> np.ndarray:
        """Return how many of some words each sentence has, ``(N,)``."""
        return np.bincount(self.sentence[words], minlength=len(self.counts))

    def count_by_class(self, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return correct, predicted and true words of each class by sentence, ``(N, C)`` each."""

        def table(ids: np.ndarray, counted: np.ndarray) -> np.ndarray:
            cells = self.sentence[counted] * classes + ids[counted]
            shape = len(self.counts), classes
            return np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape)

        return (
            table(self.tags, self.predicted == self.tags),
            table(self.predicted, self.predicted >= 0),
            table(self.tags, self.tags >= 0),
        )


def _ratio(part: Floats, whole: Floats) -> Floats:
    """Divide; 0 where the denominator is 0, as in `conlleval`."""
    result: Floats = part / np.maximum(whole, 1)
    return result


@CountMetric
def _precision(model: Counts, shared: Counts, counts: Floats) -> Floats:
    return _ratio(*(counts @ model[:, :2]).T)


@CountMetric
def _recall(model: Counts, shared: Counts, counts: Floats) -> Floats:
    return _ratio(counts @ model[:, 0], counts @ shared[:, 0])


@CountMetric
def _f1(model: Counts, shared: Counts, counts: Floats) -> Floats:
    return _ratio(2 * (counts @ model[:, 0]), counts @ (model[:, 1] + shared[:, 0]))


@CountMetric
def _accuracy(model: Counts, shared: Counts, counts: Floats) -> Floats:
    result: Floats = counts @ model[:, 2] / (counts @ shared[:, 1])
    return result


@CountMetric
def _word_accuracy(model: Counts, shared: Counts, counts: Floats) -> Floats:
    correct = model[:, : shared.shape[1]].sum(axis=1)
    result: Floats = counts @ correct / (counts @ shared.sum(axis=1))
    return result


@CountMetric
def _word_macro_f1(model: Counts, shared: Counts, counts: Floats) -> Floats:
    """Mean over the classes among tags or predictions, as :func:`classification.macro_f1`."""
    hits, predicted = np.split(model, 2, axis=1)
    total = counts @ (predicted + shared)
    f1 = _ratio(2 * (counts @ hits), total)
    result: Floats = f1.sum(axis=1) / (total > 0).sum(axis=1)
    return result


_ENTITY_METRICS = (
    Metric("f1", _f1), Metric("precision", _precision), Metric("recall", _recall),
    Metric("accuracy", _accuracy),
)  # fmt: skip
_WORD_METRICS = (Metric("accuracy", _word_accuracy), Metric("macro_f1", _word_macro_f1))
