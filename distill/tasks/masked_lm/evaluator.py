"""Accuracy of the masked tokens and perplexity."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.core.jagged import JaggedArray
from distill.data.dataset import DistillationDataset
from distill.metrics import calibration, fidelity
from distill.metrics.base import CountMetric, Floats, Metric
from distill.tasks import class_labels
from distill.tasks.evaluator import CalibrationSamples, Evaluator
from distill.tasks.masked_lm.preprocessor import MaskingConfig

# Columns of reduced logits.
NLL, PREDICTED, CONFIDENCE = range(3)


class VocabularyEvaluator(Evaluator[JaggedArray]):
    """What predictions of single tokens have in common; of each distribution three numbers stay."""

    def reduce_logits(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Reduce ``(U, V)`` logits and ``(U,)`` labels to ``(U, 3)``.

        The columns are the negative log-likelihood of the label in nats, the most likely token, and
        its probability.
        """
        logits = logits.float()
        normalizer = logits.logsumexp(-1)
        highest, predicted = logits.max(-1)
        label_logits = logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
        columns = normalizer - label_logits, predicted.float(), (highest - normalizer).exp()
        return torch.stack(columns, -1)

    def sums(
        self, logits: JaggedArray, examples: DistillationDataset
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the sums of each row over its predicted tokens.

        Returns:
            ``(N, 2)``, negative log-likelihoods in nats and correct tokens, and ``(N,)``, the
            number of predicted tokens.
        """
        reduced = np.asarray(logits.values, dtype=np.float64)
        correct = reduced[:, PREDICTED] == examples.label_values
        columns = np.stack([reduced[:, NLL], correct], axis=1)
        starts = logits.starts[:-1]  # every row has a predicted token
        return np.add.reduceat(columns, starts, axis=0), logits.counts

    def calibration(self, logits: JaggedArray, labels: JaggedArray) -> dict[str, float]:
        """Return the calibration of the distribution over the vocabulary, over tokens."""
        reduced = np.asarray(logits.values, dtype=np.float64)
        return {
            "expected_calibration_error": calibration.calibration_error(
                reduced[:, CONFIDENCE], reduced[:, PREDICTED] == labels.values
            ),
            "negative_log_likelihood": float(reduced[:, NLL].mean()),
        }

    def calibration_samples(
        self, logits: JaggedArray, examples: DistillationDataset
    ) -> CalibrationSamples:
        """Return a prediction of each masked token; those of a row belong together."""
        reduced = np.asarray(logits.values, dtype=np.float64)
        return CalibrationSamples(
            confidence=reduced[:, CONFIDENCE],
            correct=reduced[:, PREDICTED] == examples.label_values,
            losses=reduced[:, NLL],
            clusters=np.repeat(np.arange(len(logits.counts)), logits.counts),
        )

    def fidelity(self, logits: JaggedArray, teacher: JaggedArray) -> dict[str, float | None]:
        """Return the share of equal tokens; whole distributions are not kept."""
        return {
            "agreement": fidelity.agreement(
                logits.values[:, PREDICTED], teacher.values[:, PREDICTED]
            ),
            "kl_divergence": None,
        }


class MaskedLMEvaluator(VocabularyEvaluator):
    """Metrics over masked tokens.

    Args:
        metric: ``accuracy``.
        masking: decides what is measured.
    """

    selection_metrics = ("accuracy",)

    def __init__(self, metric: str, masking: MaskingConfig):
        super().__init__(metric)
        self.masking = masking

    @property
    def all_metrics(self) -> list[Metric]:
        """Accuracy and perplexity."""
        return [
            Metric("accuracy", _accuracy),
            Metric("perplexity", _perplexity, higher_is_better=False),
        ]

    def metric_inputs(
        self, logits: JaggedArray, examples: DistillationDataset
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the sums of each row over its masked tokens, see :meth:`sums`."""
        return self.sums(logits, examples)

    def constant_prediction(
        self, logits: JaggedArray, examples: DistillationDataset, names: Sequence[str]
    ) -> str | None:
        """Return that one token is predicted throughout; the outputs have no names."""
        predicted = logits.values[:, PREDICTED].astype(np.int64)
        what = "the token with the id {} for every masked token"
        return class_labels.constant_class(predicted, (), what)

    def fingerprint(self, content: str, examples: DistillationDataset) -> str:
        """Include the masked tokens: with others, numbers cannot be compared."""
        masking = sorted(vars(self.masking).items())
        digest = hashlib.sha256(f"{content} {masking}".encode())
        assert examples.position_counts is not None
        digest.update(examples.position_counts.tobytes())
        digest.update(examples.label_values.tobytes())
        return digest.hexdigest()[:16]


@CountMetric
def _accuracy(sums: Floats, totals: NDArray[np.int64], counts: Floats) -> Floats:
    """Share of correctly predicted masked tokens."""
    result: Floats = counts @ sums[:, 1] / (counts @ totals)
    return result


@CountMetric
def _perplexity(sums: Floats, totals: NDArray[np.int64], counts: Floats) -> Floats:
    """Exponential of the mean negative log-likelihood of the masked tokens."""
    result: Floats = np.exp(counts @ sums[:, 0] / (counts @ totals))
    return result
