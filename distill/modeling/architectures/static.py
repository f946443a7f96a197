"""A classifier over the mean of static word embeddings as a transformers model."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


class StaticConfig(PreTrainedConfig):
    """Configuration of a classifier over the mean of static embeddings.

    Args:
        vocab_size: number of tokens of the tokenizer.
        hidden_size: width of the embeddings.
        head_size: width of the head's hidden layer; 0 for a linear head.
        skipped_ids: ids of tokens that do not count in the mean, such as those around every text.
        pairs: whether examples are pairs of texts, each averaged separately.
        separator_id: id of the token after which the second text of a pair begins.
        dropout: probability, on the mean and the head's hidden layer.
        pad_token_id: id of the padding token.
    """

    model_type = "distill_static"

    def __init__(
        self,
        vocab_size: int = 30522,
        hidden_size: int = 256,
        head_size: int = 256,
        skipped_ids: list[int] | None = None,
        pairs: bool = False,
        separator_id: int | None = None,
        dropout: float = 0.1,
        pad_token_id: int | None = 0,
        **kwargs: Any,
    ):
        self.vocab_size, self.hidden_size, self.head_size = vocab_size, hidden_size, head_size
        self.num_hidden_layers = 0
        self.skipped_ids = list(skipped_ids or [])
        self.pairs, self.separator_id, self.dropout = pairs, separator_id, dropout
        self.pad_token_id = pad_token_id
        super().__init__(**kwargs)


class StaticForSequenceClassification(PreTrainedModel):
    """Mean of the tokens' embeddings, then a small head (as model2vec's classifiers).

    Each text of a pair is averaged separately, and the head reads ``[u, v, u * v, |u - v|]``
    (Conneau et al. 2017): in a common mean the two could not be told apart.
    """

    config_class = StaticConfig
    base_model_prefix = "encoder"
    # Default learning rate, Adam's usual one: higher than for any transformer.
    usual_learning_rate = 1e-3
    encoder: Any

    def __init__(self, config: StaticConfig):
        super().__init__(config)
        assert config.num_labels is not None
        self.encoder = nn.Module()
        self.encoder.embeddings = nn.Embedding(
            config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id
        )
        features = config.hidden_size * (4 if config.pairs else 1)
        self.hidden = nn.Linear(features, config.head_size) if config.head_size else None
        self.classifier = nn.Linear(config.head_size or features, config.num_labels)
        self.dropout = nn.Dropout(config.dropout)
        self.post_init()

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
        separator, which every tokenizer of pairs has. The only hidden state is the embeddings,
        ``(B, L, H)``.
        """
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        mask = mask.bool()
        for skipped in self.config.skipped_ids:
            mask = mask & (input_ids != skipped)
        states = self.encoder.embeddings(input_ids)
        features = self.dropout(self._features(states, mask, input_ids))
        if self.hidden is not None:
            features = self.dropout(torch.relu(self.hidden(features)))
        logits = self.classifier(features)
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config)
        output = SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=(states,) if output_hidden_states else None
        )
        return output.to_tuple() if return_dict is False else output

    def _features(self, states: Tensor, mask: Tensor, input_ids: Tensor) -> Tensor:
        if not self.config.pairs:
            return _mean(states, mask)
        separators = input_ids == self.config.separator_id
        second = (separators.cumsum(dim=1) - separators.long()) > 0
        u, v = _mean(states, mask & ~second), _mean(states, mask & second)
        return torch.cat([u, v, u * v, (u - v).abs()], dim=1)


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    """Average ``(B, L, H)`` to ``(B, H)``; 0 for a text without tokens."""
    mask = mask.unsqueeze(-1)
    return (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
