"""BERT, RoBERTa and ELECTRA in shapes that transformers' own classes cannot have."""

from torch import Tensor, nn
from transformers import BertConfig, ElectraConfig, RobertaConfig
from transformers.models.bert import modeling_bert as bert
from transformers.models.electra import modeling_electra as electra
from transformers.models.roberta import modeling_roberta as roberta


class FactorizedEmbedding(nn.Module):
    """A table ``V x r`` and a projection ``r x H`` in place of a table ``V x H``.

    The factorisation of ALBERT (Lan et al. 2020, section 3.1).
    """

    def __init__(self, tokens: int, rank: int, width: int, padding_idx: int | None):
        super().__init__()
        self.table = nn.Embedding(tokens, rank, padding_idx=padding_idx)
        self.projection = nn.Linear(rank, width, bias=False)

    @property
    def weight(self) -> Tensor:
        """The table that it stands for, ``(V, H)``."""
        return self.table.weight @ self.projection.weight.T

    def forward(self, ids: Tensor) -> Tensor:
        """``(B, L)`` -> ``(B, L, H)``."""
        return self.projection(self.table(ids))


class CompactBertConfig(BertConfig):
    """BERT's, and two widths more.

    ``attention_head_size`` is the width of a head where the heads' widths do not add up to the
    hidden size; ``embedding_rank`` that of the word table where it is factorised.
    """

    model_type = "distill_compact_bert"
    attention_head_size: int | None = None
    embedding_rank: int | None = None


class CompactRobertaConfig(RobertaConfig):
    """RoBERTa's, and two widths more, see ``CompactBertConfig``."""

    model_type = "distill_compact_roberta"
    attention_head_size: int | None = None
    embedding_rank: int | None = None


class CompactElectraConfig(ElectraConfig):
    """ELECTRA's, and two widths more, see ``CompactBertConfig``."""

    model_type = "distill_compact_electra"
    attention_head_size: int | None = None
    embedding_rank: int | None = None


class _Compact:
    """Builds the family's model, then puts its own parts into it."""

    def __init__(self, config):
        # The family's class asks that the heads share the hidden size evenly: one always does.
        heads, config.num_attention_heads = config.num_attention_heads, 1
        try:
            super().__init__(config)
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

    def resize_token_embeddings(self, *_, **__):
        """Refused: the table is no plain one."""
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
    """The family's class with a head, its heads of any number and width."""
    content = {
        "__doc__": f"{family_class.__name__} with heads of any number and width, and perhaps a "
        "factorised word table.",
        "__module__": __name__,
        "config_class": config,
    }
    return type(f"Compact{family_class.__name__}", (_Compact, family_class), content)


# Every family with every head; by family and head, and by their names for who loads a folder.
CLASSES = {
    (config.model_type, head): _with_head(
        config,
        getattr(family, config.__name__.removeprefix("Compact").removesuffix("Config") + head),
    )
    for config, family in FAMILIES
    for head in HEADS
}
globals().update({model.__name__: model for model in CLASSES.values()})
