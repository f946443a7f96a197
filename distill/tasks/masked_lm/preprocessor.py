"""Texts encoded as rows of tokens that are masked when a batch is made."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from distill.core.errors import UserError
from distill.data.columns import numeric_column
from distill.data.preprocessor import LENGTH
from distill.data.text_preprocessor import TextPreprocessor
from distill.data.token_masking import (
    WORDS,
    TokenMasking,
    inverse_frequency_weights,
    ordinary_tokens,
)


@dataclass(frozen=True)
class MaskingConfig:
    """How tokens are masked; see :class:`~distill.tasks.masked_lm.MaskedLM`."""

    mlm_probability: float = 0.15
    mask_share: float = 0.8
    random_share: float = 0.1
    whole_word: bool = False

    def validate(self) -> None:
        """Raise a ``UserError`` for shares out of range."""
        if not 0 < self.mlm_probability < 1:
            raise UserError(
                f"task.mlm_probability={self.mlm_probability}: it must lie between 0 and 1"
            )
        for option in ("mask_share", "random_share"):
            share = getattr(self, option)
            if not 0 <= share <= 1:
                raise UserError(f"task.{option}={share}: it is a share, from 0 to 1")
        if self.mask_share + self.random_share > 1 + 1e-9:
            raise UserError(
                f"task.mask_share={self.mask_share} and task.random_share={self.random_share} sum "
                "to more than 1"
            )


class MaskingPreprocessor(TextPreprocessor):
    """Encodes texts as rows of at most ``max_length`` tokens; masks them when a batch is made.

    Args:
        cache_key: see :class:`~distill.data.preprocessor.Preprocessor`.
        masking: shares of the masked tokens.
        smoothing: see :class:`~distill.tasks.masked_lm.MaskedLM`.
    """

    token_level = True

    def __init__(self, cache_key: str, masking: MaskingConfig, smoothing: float | None = None):
        super().__init__(cache_key)
        self.masking, self.smoothing = masking, smoothing

    @property
    def training_settings(self) -> dict[str, Any]:
        """How tokens are masked."""
        return vars(self.masking) | {"smoothing": self.smoothing}

    def check_processor(self, processor: PreTrainedTokenizerBase, max_length: int) -> None:
        """Raise a ``UserError`` without a mask token, or without room for a token and its mask."""
        if processor.mask_token_id is None:
            raise UserError(
                "task=masked_lm: the teacher's tokenizer has no mask token; choose a teacher that "
                "was pretrained on masked words"
            )
        if not processor.is_fast:
            raise UserError(
                "task=masked_lm continues long texts in further rows, which takes a tokenizer of "
                f"the tokenizers library; the teacher's is {type(processor).__name__}"
            )
        special = processor.num_special_tokens_to_add()
        if max_length < special + 2:
            raise UserError(
                f"data.max_length={max_length}: task=masked_lm needs room for {special} special "
                f"tokens and two others, {special + 2} or more"
            )

    def encode(
        self, processor: PreTrainedTokenizerBase, rows: Mapping[str, list[Any]], max_length: int
    ) -> dict[str, list[Any]]:
        """Encode texts as one or several rows each.

        A row of special tokens only is left out: there is nothing to mask.
        """
        encoded = processor(
            rows["text"],
            truncation=True,
            max_length=max_length,
            return_overflowing_tokens=True,
            return_attention_mask=False,
        )
        special = set(processor.all_special_ids)
        kept = [i for i, ids in enumerate(encoded["input_ids"]) if not special.issuperset(ids)]
        columns = {
            key: [encoded[key][i] for i in kept]
            for key in ("input_ids", "token_type_ids")
            if key in encoded
        }
        if self.masking.whole_word:
            columns[WORDS] = [
                [-1 if word is None else word for word in encoded.word_ids(i)] for i in kept
            ]
        return columns

    def notes(self, encoded: Mapping[str, Dataset], max_length: int) -> list[str]:
        """Return a note if texts continue in further rows."""
        rows = encoded["test"]
        full = int((numeric_column(rows, LENGTH) >= max_length).sum())
        if not full:
            return []
        return [
            f"{full} of the {len(rows)} evaluated rows are full (data.max_length={max_length} "
            "tokens): a text that is longer continues in a further row. Intervals take each row "
            "for an example."
        ]

    def batch_transform(self, processor: PreTrainedTokenizerBase, train: Dataset) -> TokenMasking:
        """Return the masking; with smoothing, ``train`` says how rare tokens are."""
        weights = None
        if self.smoothing is not None:
            weights = inverse_frequency_weights(
                train, len(ordinary_tokens(processor)), self.smoothing
            )
        masking = self.masking
        return TokenMasking(
            processor, masking.mlm_probability, masking.mask_share, masking.random_share,
            masking.whole_word, weights,
        )  # fmt: skip
