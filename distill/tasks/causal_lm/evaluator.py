"""Perplexity, bits per byte and accuracy of the next token."""

import hashlib
import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from distill.core.jagged import JaggedArray
from distill.data.columns import numeric_column
from distill.data.dataset import DistillationDataset
from distill.metrics.base import CountMetric, Floats, Metric
from distill.tasks import class_labels
from distill.tasks.causal_lm.preprocessor import BYTES
from distill.tasks.masked_lm.evaluator import PREDICTED, VocabularyEvaluator


class CausalLMEvaluator(VocabularyEvaluator):
    """Metrics over next tokens; a row is the example that intervals are computed over."""

    selection_metrics = ("perplexity", "accuracy", "bits_per_byte")
    compares_distributions: ClassVar[bool] = True

    @property
    def all_metrics(self) -> list[Metric]:
        """Perplexity, bits per byte and accuracy."""
        return [
            Metric("perplexity", _perplexity, higher_is_better=False),
            Metric("bits_per_byte", _bits_per_byte, higher_is_better=False),
            Metric("accuracy", _accuracy),
        ]

    def metric_inputs(
        self, logits: JaggedArray, examples: DistillationDataset
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the sums of each row over its targets.

        Returns:
            ``(N, 2)``, negative log-likelihoods in nats and correct tokens; and ``(N, 2)``, the
            number of targets and the bytes of text that they stand for.
        """
        sums, counts = self.sums(logits, examples)
        return sums, np.stack([counts, numeric_column(examples.student, BYTES)], axis=1)

    def constant_prediction(
        self, logits: JaggedArray, examples: DistillationDataset, names: Sequence[str]
    ) -> str | None:
        """Return that one token is predicted throughout; the outputs have no names."""
        predicted = logits.values[:, PREDICTED].astype(np.int64)
        what = "the token with the id {} at every position"
        return class_labels.constant_class(predicted, (), what)

    def fingerprint(self, content: str, examples: DistillationDataset) -> str:
        """Include the targets: perplexities of other tokens cannot be compared."""
        digest = hashlib.sha256(content.encode())
        assert examples.position_counts is not None
        digest.update(examples.position_counts.tobytes())
        digest.update(examples.label_values.tobytes())
        return digest.hexdigest()[:16]


@CountMetric
def _accuracy(sums: Floats, sizes: NDArray[np.int64], counts: Floats) -> Floats:
    """Share of correctly predicted tokens."""
    result: Floats = counts @ sums[:, 1] / (counts @ sizes[:, 0])
    return result


@CountMetric
def _perplexity(sums: Floats, sizes: NDArray[np.int64], counts: Floats) -> Floats:
    """Exponential of the mean negative log-likelihood of the targets."""
    result: Floats = np.exp(counts @ sums[:, 0] / (counts @ sizes[:, 0]))
    return result


@CountMetric
def _bits_per_byte(sums: Floats, sizes: NDArray[np.int64], counts: Floats) -> Floats:
    """Negative log-likelihood in bits over the bytes of text; comparable over vocabularies."""
    result: Floats = counts @ sums[:, 0] / (math.log(2) * np.maximum(counts @ sizes[:, 1], 1))
    return result
