"""Masked language modeling, the objective that encoders are pretrained on."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import AutoModelForMaskedLM, PreTrainedConfig

from distill.answers.masked import MaskedReader
from distill.baselines.constant import CommonestToken
from distill.core.errors import UserError
from distill.modeling.head import Head
from distill.tasks.base import Task
from distill.tasks.masked_lm.criterion import MaskedLMCriterion
from distill.tasks.masked_lm.evaluator import MaskedLMEvaluator
from distill.tasks.masked_lm.preprocessor import MaskingConfig, MaskingPreprocessor
from distill.tasks.masked_lm.schema import PlainTextSchema

__all__ = ["MaskedLM"]


class MaskedLM(Task):
    """Masked language modeling: the head's outputs are the vocabulary, there are no labels.

    Logits belong to masked tokens, which are drawn anew in every pass over the training split and
    are always the same in validation and test, see
    :class:`~distill.data.token_masking.TokenMasking`. A text longer than ``data.max_length`` tokens
    makes several rows, and a row is the example that intervals are computed over.

    Args:
        metric: ``accuracy``, the share of correctly predicted masked tokens: what early stopping,
            the best checkpoint and the report's conclusion go by.
        mlm_probability: share of the tokens that are masked.
        mask_share: of these, the share that becomes the mask token.
        random_share: of these, the share that becomes a random token; the rest stays.
        whole_word: whether to mask all tokens of a word or none.
        smoothing: in training, tokens are masked in proportion to their frequency in the training
            texts to the power of minus this, 0.7 in DistilBERT's; ``None``: uniformly. Validation
            and test mask uniformly, so that what is measured does not depend on it.

    Raises:
        UserError: for a metric that does not exist, or shares out of range.
    """

    def __init__(
        self,
        metric: str = "accuracy",
        mlm_probability: float = 0.15,
        mask_share: float = 0.8,
        random_share: float = 0.1,
        whole_word: bool = False,
        smoothing: float | None = None,
    ):
        if metric == "perplexity":
            raise UserError(
                "task.metric=perplexity: it is always reported; the best checkpoint goes by "
                "accuracy, which is better when larger"
            )
        masking = MaskingConfig(mlm_probability, mask_share, random_share, whole_word)
        evaluator = MaskedLMEvaluator(metric, masking)
        masking.validate()
        if smoothing is not None and not (smoothing >= 0 and math.isfinite(smoothing)):
            raise UserError(f"task.smoothing={smoothing}: it must be 0 or above, or null")
        name = "masked_lm"
        super().__init__(
            name=name,
            schema=PlainTextSchema(name),
            preprocessor=MaskingPreprocessor(
                f"{name} 1, words" if whole_word else f"{name} 1", masking, smoothing
            ),
            head=MaskedLMHead(),
            criterion=MaskedLMCriterion(),
            evaluator=evaluator,
            baselines=(CommonestToken(),),
        )

    def answer_reader(
        self, names: Sequence[str], columns: Mapping[str, Sequence[str]], **settings: Any
    ) -> MaskedReader:
        """Return the reader of masked words."""
        return MaskedReader(columns=columns, **settings)


class MaskedLMHead(Head):
    """Logits over the vocabulary at each token."""

    auto_model = AutoModelForMaskedLM
    # BERT's own checkpoints carry a next-sentence head beside it.
    architectures = ("ForMaskedLM", "BertForPreTraining")
    reuses_head = True

    def output_size(self, num_labels: int, config: PreTrainedConfig) -> int:
        """Return the size of the model's vocabulary."""
        return int(config.vocab_size)

    def output_order(self, model_names: Mapping[int, str], names: Sequence[str]) -> list[int]:
        """Keep the order: the outputs are the tokenizer's tokens."""
        return []

    def config_settings(self, names: Sequence[str]) -> dict[str, Any]:
        """Return nothing: the names of tens of thousands of outputs are in the tokenizer."""
        return {}
