"""A classifier over pooled embeddings of hashed n-grams as a transformers model."""

from typing import Any

import torch
from torch import Tensor, nn

from .small_network import SmallNetwork, SmallNetworkConfig

# Of the hash of n-grams: the product of two numbers below MODULUS and FACTOR fits into 64 bits.
FACTOR, MODULUS = 1000003, 2**31 - 1


class NgramConfig(SmallNetworkConfig):
    """Configuration of a classifier over hashed n-grams, ``hidden_size`` wide.

    Args:
        hidden_size: width of all embeddings.
        orders: numbers of neighboring tokens of the n-grams besides single tokens.
        buckets: rows of the table of n-grams, which share them by a hash.
        character_buckets: rows of the table of character n-grams; 0: there are none.
        pieces: maximum number of character n-grams of a token.
        **kwargs: see :class:`SmallNetworkConfig`.
    """

    model_type = "distill_ngram"

    def __init__(
        self,
        hidden_size: int = 64,
        orders: list[int] | None = None,
        buckets: int = 2**18,
        character_buckets: int = 0,
        pieces: int = 16,
        **kwargs: Any,
    ):
        self.orders, self.buckets = list(orders if orders is not None else [2]), buckets
        self.character_buckets, self.pieces = character_buckets, pieces
        super().__init__(hidden_size=hidden_size, **kwargs)


class NgramForSequenceClassification(SmallNetwork):
    """Mean of embeddings of tokens and hashed n-grams, then a small head.

    Word n-grams are those of sparse distillation (Ye et al. 2022), hashed as fastText does (Joulin
    et al. 2017); character n-grams are those of each token (Bojanowski et al. 2017, section 3.2).
    The state of a token is the sum of its embedding, the mean of its character n-grams and the
    n-grams that start at it.
    """

    config_class = NgramConfig

    def __init__(self, config: NgramConfig):
        super().__init__(config, config.hidden_size)

    def make_encoder(self, config: NgramConfig, embedding_size: int) -> nn.Module:
        """Return the embeddings of tokens, n-grams and character n-grams."""
        encoder: Any = super().make_encoder(config, embedding_size)
        if config.orders:
            encoder.ngrams = nn.Embedding(config.buckets, embedding_size)
        if config.character_buckets:
            encoder.characters = nn.Embedding(
                config.character_buckets, embedding_size, padding_idx=0
            )
            # Character n-grams of each token, padded with 0.
            pieces = torch.zeros((config.vocab_size, config.pieces), dtype=torch.long)
            encoder.register_buffer("pieces", pieces)
        self._orders = config.orders
        self._has_characters = bool(config.character_buckets)
        return encoder

    def encode(self, embedded: Tensor, mask: Tensor, input_ids: Tensor) -> Tensor:
        """Return the sum of each token's embeddings, ``(B, L, H)``."""
        states = embedded
        if self._has_characters:
            states = states + self.character_part(input_ids)
        for order in self._orders:
            # Padded, so that texts of any length are computed alike, also in an exported graph.
            exists = nn.functional.pad(mask, (0, order - 1)).unfold(1, order, 1).all(dim=2)
            ids = nn.functional.pad(input_ids, (0, order - 1))
            rows = self.encoder.ngrams(ngram_buckets(ids, order, self.config.buckets))
            states = states + rows * exists.unsqueeze(-1)
        return states

    def character_part(self, input_ids: Tensor) -> Tensor:
        """Return the mean of each token's character n-grams, ``(..., H)``; 0 without any."""
        pieces = self.encoder.pieces[input_ids]
        count = (pieces > 0).sum(dim=-1, keepdim=True).clamp(min=1)
        return self.encoder.characters(pieces).sum(dim=-2) / count


def ngram_buckets(ids: Tensor, order: int, buckets: int) -> Tensor:
    """Return the bucket of each n-gram of ids ``(B, L)``: ``(B, L - order + 1)``.

    A polynomial hash modulo 2^31 - 1 and then modulo the number of buckets.
    """
    count = ids.shape[1] - order + 1
    hashed = torch.full_like(ids[:, :count], order)
    for place in range(order):
        hashed = (hashed * FACTOR + ids[:, place : place + count] + 1) % MODULUS
    return hashed % buckets
