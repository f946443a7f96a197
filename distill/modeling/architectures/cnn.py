"""A convolutional network over word embeddings as a transformers model."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput, TokenClassifierOutput

from .small_network import SmallNetwork, SmallNetworkConfig


class CnnConfig(SmallNetworkConfig):
    """Configuration of a convolutional network over word embeddings.

    Args:
        embedding_size: width of the word embeddings.
        channels: number of filters of each width.
        widths: numbers of neighboring tokens that filters read.
        **kwargs: see :class:`SmallNetworkConfig`; its ``hidden_size`` follows from the filters.
    """

    model_type = "distill_cnn"

    def __init__(
        self,
        embedding_size: int = 256,
        channels: int = 256,
        widths: list[int] | None = None,
        **kwargs: Any,
    ):
        self.embedding_size, self.channels = embedding_size, channels
        self.widths = list(widths or [3])
        kwargs |= {"hidden_size": channels * len(self.widths), "num_hidden_layers": 1}
        super().__init__(**kwargs)


class CnnEncoder(nn.Module):
    """Word embeddings and filters of several widths side by side (Kim 2014).

    A filter of width w is a linear map of the w embeddings around each token, followed by ReLU;
    beyond the text they are 0.
    """

    def __init__(self, config: CnnConfig):
        super().__init__()
        self.embeddings = nn.Embedding(
            config.vocab_size, config.embedding_size, padding_idx=config.pad_token_id
        )
        self.widths = config.widths
        self.filters = nn.ModuleList(
            nn.Linear(width * config.embedding_size, config.channels) for width in config.widths
        )

    def convolve(self, embedded: Tensor, mask: Tensor) -> Tensor:
        """Return the filters' outputs ``(B, L, H)`` of embeddings ``(B, L, E)``."""
        embedded = embedded * mask.unsqueeze(-1)
        length = embedded.shape[1]
        outputs = []
        for width, layer in zip(self.widths, self.filters, strict=True):
            before = (width - 1) // 2
            padded = F.pad(embedded, (0, 0, before, width - 1 - before))
            # (B, L, width * E); torch's own convolution takes longer at a batch of one text.
            windows = torch.cat([padded[:, i : i + length] for i in range(width)], dim=2)
            outputs.append(layer(windows))
        return torch.relu(outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2))

    def forward(self, input_ids: Tensor, mask: Tensor) -> BaseModelOutput:
        """Return the filters' outputs of ids ``(B, L)``, and the embeddings, as hidden states."""
        embedded = self.embeddings(input_ids)
        states = self.convolve(embedded, mask)
        return BaseModelOutput(last_hidden_state=states, hidden_states=(embedded, states))


class CnnForSequenceClassification(SmallNetwork):
    """Filters over neighboring words, pooling and a small head (Kim 2014, section 2)."""

    config_class = CnnConfig

    def __init__(self, config: CnnConfig):
        super().__init__(config, config.embedding_size)

    def make_encoder(self, config: CnnConfig, embedding_size: int) -> CnnEncoder:
        """Return embeddings and filters."""
        return CnnEncoder(config)

    def encode(self, embedded: Tensor, mask: Tensor, input_ids: Tensor) -> Tensor:
        """Return the filters' outputs."""
        encoder: CnnEncoder = self.encoder
        return encoder.convolve(embedded, mask)


class CnnForTokenClassification(SmallNetwork):
    """A label for each token, from the filters around it.

    A word is told by itself and its neighbors: what lies beyond the widest filter is not seen.
    """

    config_class = CnnConfig

    def __init__(self, config: CnnConfig):
        super().__init__(config, config.embedding_size)

    def head_width(self, config: SmallNetworkConfig) -> int:
        """Return the number of filters."""
        return config.hidden_size

    def make_encoder(self, config: CnnConfig, embedding_size: int) -> CnnEncoder:
        """Return embeddings and filters."""
        return CnnEncoder(config)

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> TokenClassifierOutput | tuple:
        """Return logits ``(B, L, C)`` of ids ``(B, L)``; ``token_type_ids`` are ignored."""
        states = self.encoder(input_ids, self.token_mask(input_ids, attention_mask))
        logits = self.head(states.last_hidden_state)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, config=self.config)
        hidden_states = states.hidden_states if output_hidden_states else None
        output = TokenClassifierOutput(loss=loss, logits=logits, hidden_states=hidden_states)
        return output.to_tuple() if return_dict is False else output
