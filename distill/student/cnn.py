"""A convolutional network over word embeddings as the student."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from distill.core.errors import UserError
from distill.modeling.architectures.cnn import CnnConfig
from distill.student.small_network import SmallNetworkFactory, check_positive


@dataclass(kw_only=True)
class CNNFactory(SmallNetworkFactory):
    """Filters over neighboring words, pooling and a small head (Kim 2014).

    It reads short phrases as a whole ("not good"), and is nearly as fast as static embeddings.

    Attributes:
        name: name in reports.
        embedding_size: width of the word embeddings; ``None``: 256, or the teacher's if smaller.
        widths: numbers of neighboring tokens that filters read; several stand side by side.
        channels: number of filters of each width.
        head_size: width of the head's hidden layer; 0 for a linear head.
        pooling: ``mean`` or ``max`` over the tokens, or ``mean_max``, both side by side.
        start: initial embeddings: ``outputs`` (the teacher's last hidden state of each single
            token) or ``embeddings`` of the teacher, reduced to the width, or ``random``.
        weighting: ``frequency`` multiplies the initial embedding of each token by
            ``a / (a + p(token))``, p its relative frequency in the training texts (Arora et al.
            2017, equation 3), so that frequent words do not dominate; ``none`` does not.
        vocabulary: ``full``, ``corpus`` (the tokens of the training texts) or the number of their
            most frequent tokens to keep; see :func:`~distill.student.vocabulary.trim_tokenizer`.
        dropout: probability of dropout on the pooled features and in the head.
        word_dropout: probability with which a token is left out in training.
        max_length: maximum number of tokens that it reads, more than the teacher if wanted;
            ``None``: ``data.max_length``.
    """

    embedding_size: int | None = None
    widths: list[int] = field(default_factory=lambda: [3])
    channels: int = 256

    supported_heads: ClassVar[tuple[str, ...] | None] = (
        "ForSequenceClassification",
        "ForTokenClassification",
    )
    width_option: ClassVar[str] = "embedding_size"
    default_width: ClassVar[int] = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "channels")
        if not self.widths or min(self.widths) < 1 or len(set(self.widths)) < len(self.widths):
            raise UserError(
                f"student.widths={self.widths}: one or more different numbers of tokens, such as "
                "[3] or [2,3,4]"
            )

    def network_config(self, width: int, settings: Mapping[str, Any]) -> CnnConfig:
        """Return the network's configuration."""
        return CnnConfig(
            embedding_size=width, channels=self.channels, widths=self.widths, **settings
        )
