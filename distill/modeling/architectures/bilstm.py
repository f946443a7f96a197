"""A bidirectional LSTM text classifier as a transformers model."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


class BiLstmConfig(PreTrainedConfig):
    """Configuration of a BiLSTM classifier.

    Args:
        vocab_size: number of tokens of the tokenizer.
        embedding_size: width of the word embeddings.
        hidden_size: width of each layer's output, half of it from each direction.
        num_hidden_layers: number of LSTM layers.
        head_size: width of the head's hidden layer.
        pooling: ``max`` or ``mean`` over a text's tokens.
        pairs: whether examples are pairs of texts, each pooled separately.
        separator_id: id of the token after which the second text of a pair begins.
        dropout: probability, on embeddings, between layers and on the pooled features.
        pad_token_id: id of the padding token.
    """

    model_type = "distill_bilstm"

    def __init__(
        self,
        vocab_size: int = 30522,
        embedding_size: int = 300,
        hidden_size: int = 300,
        num_hidden_layers: int = 1,
        head_size: int = 200,
        pooling: str = "max",
        pairs: bool = False,
        separator_id: int | None = None,
        dropout: float = 0.1,
        pad_token_id: int | None = 0,
        **kwargs: Any,
    ):
        self.vocab_size, self.embedding_size = vocab_size, embedding_size
        self.hidden_size, self.num_hidden_layers = hidden_size, num_hidden_layers
        self.head_size, self.pooling, self.dropout = head_size, pooling, dropout
        self.pairs, self.separator_id = pairs, separator_id
        self.pad_token_id = pad_token_id
        super().__init__(**kwargs)


class BiLstmLayer(nn.Module):
    """A forward LSTM and a backward LSTM.

    Each text is reversed within its own length, so that padding is read last and changes nothing.
    Packed sequences would do the same, but their kernels are half as fast on a CPU and need the
    lengths there.
    """

    def __init__(self, width: int, hidden_size: int):
        super().__init__()
        self.ahead = nn.LSTM(width, hidden_size // 2, batch_first=True)
        self.back = nn.LSTM(width, hidden_size // 2, batch_first=True)

    def forward(self, states: Tensor, turned: Tensor) -> Tensor:
        """Return the outputs ``(B, L, hidden)``.

        Args:
            states: ``(B, L, width)``.
            turned: indices that reverse each text, ``(B, L)``.
        """
        ahead, _ = self.ahead(states)
        back, _ = self.back(_gather(states, turned))
        return torch.cat([ahead, _gather(back, turned)], dim=2)


def _gather(states: Tensor, index: Tensor) -> Tensor:
    return states.gather(1, index.unsqueeze(-1).expand(-1, -1, states.shape[2]))


class BiLstmForSequenceClassification(PreTrainedModel):
    """BiLSTM, pooling and a hidden layer with ReLU (Tang et al. 2019, section 3.1).

    Two deviations. The features are pooled over all states, whereas the paper takes the last state
    of each direction. And a pair is read in one pass, with the state carried from the first text to
    the second; each is pooled separately, and the head reads ``[u, v, u * v, |u - v|]`` as in the
    paper, which encodes the two separately.
    """

    config_class = BiLstmConfig
    base_model_prefix = "encoder"
    # Default learning rate, Adam's usual one: higher than for any transformer.
    usual_learning_rate = 1e-3
    encoder: Any

    def __init__(self, config: BiLstmConfig):
        super().__init__(config)
        widths = [config.embedding_size] + [config.hidden_size] * (config.num_hidden_layers - 1)
        assert config.num_labels is not None
        self.encoder = nn.Module()
        self.encoder.embeddings = nn.Embedding(
            config.vocab_size, config.embedding_size, padding_idx=config.pad_token_id
        )
        self.encoder.layers = nn.ModuleList(
            BiLstmLayer(width, config.hidden_size) for width in widths
        )
        features = config.hidden_size * (4 if config.pairs else 1)
        self.hidden = nn.Linear(features, config.head_size)
        self.classifier = nn.Linear(config.head_size, config.num_labels)
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
        """Return logits ``(B, C)`` of ids ``(B, L)`` padded on the right.

        ``token_type_ids`` are accepted and ignored: the texts of a pair are told apart by the
        separator, which every tokenizer of pairs has. Hidden states are the embeddings and each
        layer's output, ``(B, L, width)``, 0 on padding.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        mask = attention_mask.bool()
        if not (torch.jit.is_tracing() or torch.compiler.is_exporting()) and not bool(
            mask[:, 0].all()
        ):
            raise ValueError("texts must be padded on the right and not be empty")
        lengths = mask.sum(dim=1, keepdim=True)
        positions = torch.arange(mask.shape[1], device=mask.device).unsqueeze(0)
        turned = torch.where(mask, lengths - 1 - positions, positions)
        # Zeros at padding, so that hidden states do not depend on it.
        states = self.encoder.embeddings(input_ids) * mask.unsqueeze(-1)
        hidden_states = [states]
        for layer in self.encoder.layers:
            states = layer(self.dropout(states), turned) * mask.unsqueeze(-1)
            hidden_states.append(states)
        features = self._features(states, mask, input_ids)
        logits = self.classifier(self.dropout(torch.relu(self.hidden(self.dropout(features)))))
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config)
        output = SequenceClassifierOutput(
            loss=loss,
            logits=logits,
            hidden_states=tuple(hidden_states) if output_hidden_states else None,
        )
        return output.to_tuple() if return_dict is False else output

    def _features(self, states: Tensor, mask: Tensor, input_ids: Tensor) -> Tensor:
        if not self.config.pairs:
            return self._pool(states, mask)
        separators = input_ids == self.config.separator_id
        second = (separators.cumsum(dim=1) - separators.long()) > 0
        u, v = self._pool(states, mask & ~second), self._pool(states, mask & second)
        return torch.cat([u, v, u * v, (u - v).abs()], dim=1)

    def _pool(self, states: Tensor, mask: Tensor) -> Tensor:
        """Pool ``(B, L, H)`` to ``(B, H)``; 0 for a text without tokens."""
        mask = mask.unsqueeze(-1)
        if self.config.pooling == "mean":
            return (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        # LSTM states lie between -1 and 1.
        pooled = states.masked_fill(~mask, -2.0).amax(dim=1)
        return pooled * mask.any(dim=1)
