"""A toy task of a decoder: the next token of a line of text, chosen by perplexity."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedTokenizerBase

from distill.core.jagged import JaggedArray
from distill.data.dataset import DistillationDataset
from distill.data.preprocessor import POSITIONS
from distill.data.schema import LABEL
from distill.data.text_preprocessor import TextPreprocessor
from distill.metrics import calibration, fidelity
from distill.metrics.base import CountMetric, Floats, Metric
from distill.modeling.head import Head
from distill.objectives.criterion import Criterion
from distill.tasks.base import Task
from distill.tasks.evaluator import Evaluator
from distill.tasks.masked_lm.schema import PlainTextSchema


class ToyDecoder(Task):
    """Causal language modeling on single lines.

    Args:
        metric: ``perplexity`` (lower is better) or ``accuracy``.
    """

    def __init__(self, metric: str = "perplexity"):
        super().__init__(
            name="toy_decoder",
            schema=PlainTextSchema("toy_decoder"),
            preprocessor=NextTokenPreprocessor("toy_decoder"),
            head=CausalHead(),
            criterion=NextTokenCriterion(),
            evaluator=NextTokenEvaluator(metric),
        )


class NextTokenPreprocessor(TextPreprocessor):
    """Each token but the last predicts the one after it."""

    token_level = True

    def encode(
        self, processor: PreTrainedTokenizerBase, rows: Mapping[str, list], max_length: int
    ) -> dict[str, list]:
        """Ids, the positions that predict, and what they should predict."""
        ids = processor(
            rows["text"], truncation=True, max_length=max_length, return_attention_mask=False
        )["input_ids"]
        ids = [row for row in ids if len(row) > 1]
        return {
            "input_ids": ids,
            POSITIONS: [list(range(len(row) - 1)) for row in ids],
            LABEL: [row[1:] for row in ids],
        }


class CausalHead(Head):
    """Logits over the vocabulary at each token."""

    auto_model = AutoModelForCausalLM
    architectures = ("ForCausalLM", "LMHeadModel")
    reuses_head = True

    def output_size(self, num_labels: int, config: PreTrainedConfig) -> int:
        """The vocabulary."""
        return config.vocab_size

    def output_order(self, model_names: Mapping[int, str], names: Sequence[str]) -> list[int]:
        """As they are."""
        return []

    def config_settings(self, names: Sequence[str]) -> dict[str, Any]:
        """Nothing."""
        return {}


class NextTokenCriterion(Criterion):
    """Softmax over the vocabulary."""

    distribution = "categorical"

    def hard_label_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy: ``(U, V)``, ``(U,)`` -> scalar."""
        return F.cross_entropy(logits.float(), labels)


@CountMetric
def _perplexity(sums: np.ndarray, totals: np.ndarray, counts: Floats) -> Floats:
    return np.exp(counts @ sums[:, 0] / (counts @ totals))


@CountMetric
def _accuracy(sums: np.ndarray, totals: np.ndarray, counts: Floats) -> Floats:
    return counts @ sums[:, 1] / (counts @ totals)


class NextTokenEvaluator(Evaluator):
    """Perplexity and accuracy over lines."""

    selection_metrics = ("perplexity", "accuracy")

    @property
    def all_metrics(self) -> list[Metric]:
        """Both."""
        return [
            Metric("perplexity", _perplexity, higher_is_better=False),
            Metric("accuracy", _accuracy),
        ]

    def metric_inputs(
        self, logits: JaggedArray, examples: DistillationDataset
    ) -> tuple[np.ndarray, np.ndarray]:
        """Each line's sums over its tokens, and the number of them."""
        labels = examples.labels.values
        losses = -fidelity.log_softmax(logits.values)[np.arange(len(labels)), labels]
        correct = logits.values.argmax(-1) == labels
        sums = np.add.reduceat(np.stack([losses, correct], 1), logits.starts[:-1], axis=0)
        return sums, logits.counts

    def calibration(self, logits: JaggedArray, labels: JaggedArray) -> dict[str, float]:
        """Of the distribution over the vocabulary."""
        log_probabilities = fidelity.log_softmax(logits.values)
        return {
            "expected_calibration_error": calibration.expected_calibration_error(
                np.exp(log_probabilities), labels.values
            ),
            "negative_log_likelihood": calibration.negative_log_likelihood(
                log_probabilities, labels.values
            ),
        }

    def fidelity(self, logits: JaggedArray, teacher: JaggedArray) -> dict[str, float | None]:
        """Same token, and divergence in nats a token."""
        return {
            "agreement": fidelity.agreement(logits.values.argmax(-1), teacher.values.argmax(-1)),
            "kl_divergence": fidelity.kl_divergence(teacher.values, logits.values),
        }
