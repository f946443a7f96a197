"""Hashed n-grams as the student."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from transformers import PreTrainedTokenizerBase

from distill.core.errors import UserError
from distill.modeling.architectures.ngram import NgramConfig
from distill.student.base import Student, StudentContext
from distill.student.small_network import SmallNetworkFactory, check_positive

# Lengths of character n-grams: fastText's 3 to 6 are more than a token of a few letters has.
CHARACTER_ORDERS = (3, 4, 5)
# Maximum number of character n-grams of a token.
PIECES = 16


@dataclass(kw_only=True)
class NgramFactory(SmallNetworkFactory):
    """Mean of embeddings of hashed n-grams (Ye et al. 2022, "Sparse Distillation").

    For millions of texts: with few, most n-grams of a text have never been seen.

    Attributes:
        name: name in reports.
        hidden_size: width of all embeddings; ``None``: 64.
        orders: numbers of neighboring tokens of the n-grams besides single tokens; an empty list:
            none.
        buckets: rows of the table of n-grams, which share them by a hash.
        character_buckets: rows of the table of character n-grams of the tokens (3 to 5
            characters); 0: there are none.
        head_size: width of the head's hidden layer; 0 for a linear head.
        pooling: ``mean`` or ``max`` over the tokens, or ``mean_max``, both side by side.
        start: initial embeddings of single tokens: ``outputs`` (the teacher's last hidden state of
            each) or ``embeddings`` of the teacher, reduced to the width, or ``random``. N-grams
            start at 0.
        weighting: ``frequency`` multiplies the initial embedding of each token by
            ``a / (a + p(token))``, p its relative frequency in the training texts (Arora et al.
            2017, equation 3), so that frequent words do not dominate; ``none`` does not.
        vocabulary: ``full``, ``corpus`` (the tokens of the training texts) or the number of their
            most frequent tokens to keep; see :func:`~distill.student.vocabulary.trim_tokenizer`.
        dropout: probability of dropout on the pooled embeddings and in the head.
        word_dropout: probability with which a token, with its n-grams, is left out in training.
        max_length: maximum number of tokens that it reads, more than the teacher if wanted;
            ``None``: ``data.max_length``.
    """

    hidden_size: int | None = None
    orders: list[int] = field(default_factory=lambda: [2, 3])
    buckets: int = 2**18
    character_buckets: int = 2**14

    supported_heads: ClassVar[tuple[str, ...] | None] = ("ForSequenceClassification",)
    width_option: ClassVar[str] = "hidden_size"
    default_width: ClassVar[int] = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "buckets")
        if any(order < 2 for order in self.orders) or len(set(self.orders)) < len(self.orders):
            raise UserError(
                f"student.orders={self.orders}: different numbers from 2, such as [2,3], or []"
            )
        if self.character_buckets < 0 or self.character_buckets == 1:
            raise UserError(
                f"student.character_buckets={self.character_buckets}: 2 or more, or 0 for none"
            )

    def network_config(self, width: int, settings: Mapping[str, Any]) -> NgramConfig:
        """Return the network's configuration."""
        return NgramConfig(
            hidden_size=width,
            orders=self.orders,
            buckets=self.buckets,
            character_buckets=self.character_buckets,
            pieces=PIECES,
            **settings,
        )

    def build(self, context: StudentContext) -> Student:
        """Return the student: n-grams start at 0, characters know their tokens."""
        student = super().build(context)
        encoder: Any = student.model.base_model
        with torch.no_grad():
            if self.orders:
                encoder.ngrams.weight.zero_()
            if self.character_buckets:
                encoder.characters.weight.zero_()
                encoder.pieces.copy_(character_pieces(student.processor, self.character_buckets))
        return student


def character_pieces(tokenizer: PreTrainedTokenizerBase, buckets: int) -> torch.Tensor:
    """Return the buckets of each token's character n-grams, ``(V, PIECES)``, padded with 0.

    A token that begins a word begins with a sign of its own, that of the tokenizer or ``<``.
    Special tokens have none.
    """
    special = set(tokenizer.all_special_ids)
    table = torch.zeros((len(tokenizer), PIECES), dtype=torch.long)
    for index, token in enumerate(tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))):
        if index in special:
            continue
        text = token[2:] if token.startswith("##") else f"<{token}"
        grams = dict.fromkeys(
            text[start : start + order]
            for order in CHARACTER_ORDERS
            for start in range(len(text) - order + 1)
        )
        rows = [1 + zlib.crc32(gram.encode()) % (buckets - 1) for gram in grams][:PIECES]
        table[index, : len(rows)] = torch.tensor(rows, dtype=torch.long)
    return table
