"""Pooled static embeddings as the student."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from distill.modeling.architectures.static import StaticConfig
from distill.student.small_network import SmallNetworkFactory


@dataclass(kw_only=True)
class StaticFactory(SmallNetworkFactory):
    """Mean of static embeddings and a small head (model2vec, Tulkens and van Dongen 2024).

    The fastest student: it looks up and averages embeddings, and ignores the order of words.

    Attributes:
        name: name in reports.
        hidden_size: width of the embeddings; ``None``: 256, or the teacher's if smaller.
        head_size: width of the head's hidden layer; 0 for a linear head.
        pooling: ``mean`` or ``max`` over the tokens, or ``mean_max``, both side by side.
        start: initial embeddings: ``outputs`` (the teacher's last hidden state of each single
            token) or ``embeddings`` of the teacher, reduced to the width, or ``random``.
        weighting: ``frequency`` multiplies the initial embedding of each token by
            ``a / (a + p(token))``, p its relative frequency in the training texts (Arora et al.
            2017, equation 3), so that frequent words do not dominate the mean; ``none`` does not.
        vocabulary: ``full``, ``corpus`` (the tokens of the training texts) or the number of their
            most frequent tokens to keep; see :func:`~distill.student.vocabulary.trim_tokenizer`.
        dropout: probability of dropout on the pooled embeddings and in the head.
        word_dropout: probability with which a token is left out in training.
        max_length: maximum number of tokens that it reads, more than the teacher if wanted;
            ``None``: ``data.max_length``.
    """

    hidden_size: int | None = None

    supported_heads: ClassVar[tuple[str, ...] | None] = ("ForSequenceClassification",)
    width_option: ClassVar[str] = "hidden_size"
    # Width of model2vec's published embeddings.
    default_width: ClassVar[int] = 256

    def network_config(self, width: int, settings: Mapping[str, Any]) -> StaticConfig:
        """Return the network's configuration."""
        return StaticConfig(hidden_size=width, **settings)
