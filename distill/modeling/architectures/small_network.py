"""What the small networks over token embeddings share: embeddings, pooling, pairs, head.

A saved student carries this file beside that of its architecture, which imports it relatively.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

POOLINGS = ("mean", "max", "mean_max")


class SmallNetworkConfig(PreTrainedConfig):
    """Configuration of a small network over token embeddings.

    Args:
        vocab_size: number of tokens of the tokenizer.
        hidden_size: width of what is pooled.
        head_size: width of the head's hidden layer; 0 for a linear head.
        skipped_ids: ids of tokens that are not pooled, such as those around every text.
        pooling: ``mean`` or ``max`` over the tokens, or ``mean_max``, both side by side.
        pairs: whether examples are pairs of texts, each pooled separately.
        separator_id: id of the token after which the second text of a pair begins.
        dropout: probability, on the pooled features and the head's hidden layer.
        word_dropout: probability with which a token is left out in training (Iyyer et al. 2015).
        pad_token_id: id of the padding token.
        num_hidden_layers: number of layers of the encoder above the embeddings.
    """

    def __init__(
        self,
        vocab_size: int = 30522,
        hidden_size: int = 256,
        head_size: int = 256,
        skipped_ids: list[int] | None = None,
        pooling: str = "mean",
        pairs: bool = False,
        separator_id: int | None = None,
        dropout: float = 0.1,
        word_dropout: float = 0.0,
        pad_token_id: int | None = 0,
        num_hidden_layers: int = 0,
        **kwargs: Any,
    ):
        self.vocab_size, self.hidden_size, self.head_size = vocab_size, hidden_size, head_size
        self.skipped_ids = list(skipped_ids or [])
        self.pooling, self.pairs, self.separator_id = pooling, pairs, separator_id
        self.dropout, self.word_dropout = dropout, word_dropout
        self.pad_token_id, self.num_hidden_layers = pad_token_id, num_hidden_layers
        super().__init__(**kwargs)


class SmallNetwork(PreTrainedModel):
    """Embeddings, an encoder that subclasses add, pooling and a head of one hidden layer.

    Each text of a pair is pooled separately, and the head reads ``[u, v, u * v, |u - v|]``
    (Conneau et al. 2017): in a common pool the two could not be told apart.

    At a batch of one text, calls take longer than arithmetic: settings are read once, and layers
    are applied as functions.
    """

    base_model_prefix = "encoder"
    # Default learning rate, Adam's usual one: higher than for any transformer.
    usual_learning_rate = 1e-3
    # What a training on a few thousand labels alone takes, tried on the default data.
    usual_epochs, usual_batch_size = 5, 32
    encoder: Any

    def __init__(self, config: SmallNetworkConfig, embedding_size: int):
        super().__init__(config)
        assert config.num_labels is not None
        self.encoder = self.make_encoder(config, embedding_size)
        features = self.head_width(config)
        self.hidden = nn.Linear(features, config.head_size) if config.head_size else None
        self.classifier = nn.Linear(config.head_size or features, config.num_labels)
        self._skipped_ids, self._separator_id = config.skipped_ids, config.separator_id
        self._pooling, self._pairs = config.pooling, config.pairs
        self._dropout, self._word_dropout = config.dropout, config.word_dropout
        self.post_init()

    def head_width(self, config: SmallNetworkConfig) -> int:
        """Return the width of what the head reads."""
        pooled = config.hidden_size * (2 if config.pooling == "mean_max" else 1)
        return pooled * (4 if config.pairs else 1)

    def make_encoder(self, config: Any, embedding_size: int) -> nn.Module:
        """Return the module with the embeddings."""
        encoder: Any = nn.Module()
        encoder.embeddings = nn.Embedding(
            config.vocab_size, embedding_size, padding_idx=config.pad_token_id
        )
        return encoder

    def encode(self, embedded: Tensor, mask: Tensor, input_ids: Tensor) -> Tensor:
        """Return what is pooled, ``(B, L, H)``: here the embeddings themselves.

        Args:
            embedded: embeddings, ``(B, L, E)``.
            mask: which tokens exist and are not dropped, ``(B, L)``.
            input_ids: ids, ``(B, L)``.
        """
        return embedded

    def get_input_embeddings(self) -> nn.Embedding:
        """Return the word embeddings."""
        embeddings: nn.Embedding = self.encoder.embeddings
        return embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the word embeddings."""
        self.encoder.embeddings = value

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> SequenceClassifierOutput | tuple:
        """Return logits ``(B, C)`` of ids ``(B, L)``.

        ``token_type_ids`` are accepted and ignored: the texts of a pair are told apart by the
        separator, which every tokenizer of pairs has. Hidden states are the embeddings
        ``(B, L, E)`` and, where there is an encoder, its output ``(B, L, H)``.
        """
        mask = self.token_mask(input_ids, attention_mask)
        embedded = self.encoder.embeddings(input_ids)
        states = self.encode(embedded, mask, input_ids)
        for skipped in self._skipped_ids:
            mask = mask & (input_ids != skipped)
        logits = self.head(self._features(states, mask, input_ids))
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config)
        hidden_states = None
        if output_hidden_states:
            hidden_states = (embedded,) if states is embedded else (embedded, states)
        output = SequenceClassifierOutput(loss=loss, logits=logits, hidden_states=hidden_states)
        return output.to_tuple() if return_dict is False else output

    def token_mask(self, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Return which tokens exist and, in training, are not dropped, ``(B, L)``."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        mask = mask.bool()
        if self.training and self._word_dropout:
            mask = mask & (torch.rand_like(mask, dtype=torch.float) >= self._word_dropout)
        return mask

    def head(self, features: Tensor) -> Tensor:
        """Return the logits ``(..., C)`` of features ``(..., F)``."""
        features = self._drop(features)
        if self.hidden is not None:
            hidden = F.linear(features, self.hidden.weight, self.hidden.bias)
            features = self._drop(torch.relu(hidden))
        return F.linear(features, self.classifier.weight, self.classifier.bias)

    def _drop(self, features: Tensor) -> Tensor:
        return F.dropout(features, self._dropout) if self.training else features

    def _features(self, states: Tensor, mask: Tensor, input_ids: Tensor) -> Tensor:
        if not self._pairs:
            return self._pool(states, mask)
        assert self._separator_id is not None
        separators = input_ids.eq(self._separator_id)
        second = (separators.cumsum(dim=1) - separators.long()) > 0
        u, v = self._pool(states, mask & ~second), self._pool(states, mask & second)
        return torch.cat([u, v, u * v, (u - v).abs()], dim=1)

    def _pool(self, states: Tensor, mask: Tensor) -> Tensor:
        """Pool ``(B, L, H)`` to ``(B, H)`` or ``(B, 2 H)``; 0 for a text without tokens."""
        if self._pooling == "mean":
            return mean_pool(states, mask)
        if self._pooling == "max":
            return max_pool(states, mask)
        return torch.cat([mean_pool(states, mask), max_pool(states, mask)], dim=1)


def mean_pool(states: Tensor, mask: Tensor) -> Tensor:
    """Average ``(B, L, H)`` to ``(B, H)``; 0 for a text without tokens."""
    mask = mask.unsqueeze(-1)
    return (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def max_pool(states: Tensor, mask: Tensor) -> Tensor:
    """Return the maximum over the tokens, ``(B, L, H)`` -> ``(B, H)``; 0 without tokens."""
    mask = mask.unsqueeze(-1)
    lowest = torch.finfo(states.dtype).min
    return states.masked_fill(~mask, lowest).amax(dim=1) * mask.any(dim=1)
