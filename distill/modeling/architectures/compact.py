"""BERT, RoBERTa and ELECTRA in shapes that the classes of transformers do not support."""

from typing import Any, NoReturn

from torch import Tensor, nn
from transformers import BertConfig, ElectraConfig, RobertaConfig
from transformers.models.bert import modeling_bert as bert
from transformers.models.electra import modeling_electra as electra
from transformers.models.roberta import modeling_roberta as roberta


class FactorizedEmbedding(nn.Module):
    """An embedding table ``V x r`` and a projection ``r x H`` in place of a table ``V x H``.

    The factorization of ALBERT (Lan et al. 2020, section 3.1).
    """

    def __init__(self, tokens: int, rank: int, width: int, padding_idx: int | None):
        super().__init__()
        self.table = nn.Embedding(tokens, rank, padding_idx=padding_idx)
        self.projection = nn.Linear(rank, width, bias=False)

    @property
    def weight(self) -> Tensor:
        """Return the product, ``(V, H)``."""
        return self.table.weight @ self.projection.weight.T

    def forward(self, ids: Tensor) -> Tensor:
        """Return the embeddings ``(B, L, H)`` of ids ``(B, L)``."""
        return self.projection(self.table(ids))


class CompactBertConfig(BertConfig):
    """Configuration of a BERT with two further widths.

    Attributes:
        attention_head_size: width of a head; ``None``: hidden size / number of heads.
        embedding_rank: rank of the factorized embedding table; ``None``: not factorized.
    """

    model_type = "distill_compact_bert"
    attention_head_size: int | None = None
    embedding_rank: int | None = None


class CompactRobertaConfig(RobertaConfig):
    """Configuration of a RoBERTa with two further widths, see ``CompactBertConfig``."""

    model_type = "distill_compact_roberta"
    attention_head_size: int | None = None
    embedding_rank: int | None = None


class CompactElectraConfig(ElectraConfig):
    """Configuration of an ELECTRA with two further widths, see ``CompactBertConfig``."""

    model_type = "distill_compact_electra"
    attention_head_size: int | None = None
    embedding_rank: int | None = None


class _Compact:
    """Mixin that builds the family's model, then replaces attention and embeddings."""

    base_model: Any
    post_init: Any

    def __init__(self, config: Any):
        # The family's class requires that the number of heads divides the hidden size: 1 does.
        heads, config.num_attention_heads = config.num_attention_heads, 1
        try:
            super().__init__(config)  # type: ignore[call-arg]  # the family's class
        finally:
            config.num_attention_heads = heads
        embeddings = self.base_model.embeddings
        if config.embedding_rank is not None:
            words = embeddings.word_embeddings
            embeddings.word_embeddings = FactorizedEmbedding(
                words.num_embeddings, config.embedding_rank, words.embedding_dim, words.padding_idx
            )
        width = config.attention_head_size or config.hidden_size // heads
        for layer in self.base_model.encoder.layer:
            attention = layer.attention.self
            attention.num_attention_heads, attention.attention_head_size = heads, width
            attention.all_head_size, attention.scaling = heads * width, width**-0.5
            for name in ("query", "key", "value"):
                setattr(attention, name, nn.Linear(config.hidden_size, heads * width))
            layer.attention.output.dense = nn.Linear(heads * width, config.hidden_size)
        self.post_init()

    def resize_token_embeddings(self, *_: Any, **__: Any) -> NoReturn:
        """Raise: the embedding table of a compact model is not a plain one."""
        raise NotImplementedError("the vocabulary of a compact model cannot be resized")


HEADS = (
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMaskedLM",
)
FAMILIES = (
    (CompactBertConfig, bert),
    (CompactRobertaConfig, roberta),
    (CompactElectraConfig, electra),
)


def _with_head(config: type, family_class: type) -> type:
    """Return a family's class with a head, with any number and width of attention heads."""
    content = {
        "__doc__": f"{family_class.__name__} with any number and width of attention heads, and "
        "optionally a factorized embedding table.",
        "__module__": __name__,
        "config_class": config,
    }
    return type(f"Compact{family_class.__name__}", (_Compact, family_class), content)


# Every family with every head, by model_type and head; also module attributes, for loading.
CLASSES = {
    (config.model_type, head): _with_head(
        config,
        getattr(family, config.__name__.removeprefix("Compact").removesuffix("Config") + head),
    )
    for config, family in FAMILIES
    for head in HEADS
}
globals().update({model.__name__: model for model in CLASSES.values()})
