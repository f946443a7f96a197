"""From a family's own model to its compact class, and word tables of low rank."""

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from distill.core.errors import UserError
from distill.modeling.architectures import COMPACT
from distill.modeling.families import family_name


def head_size(config: PretrainedConfig) -> int:
    """Width of an attention head."""
    own = getattr(config, "attention_head_size", None)
    return own or config.hidden_size // config.num_attention_heads


def head_name(model: PreTrainedModel) -> str:
    """What the name of its class says of its head, such as ``ForSequenceClassification``."""
    return "For" + type(model).__name__.partition("For")[2]


def as_compact(
    config: PretrainedConfig, head: str = "ForSequenceClassification", **changes
) -> PreTrainedModel:
    """An empty compact model of a family with a head, with some settings changed.

    Raises:
        UserError: for a masked language model whose word table would be a product.
    """
    config_type, models = COMPACT[family_name(config)]
    if head == "ForMaskedLM" and changes.get("embedding_rank") is not None:
        raise UserError(
            "student.embedding_size: a masked language model writes with its word table too, which "
            "a product of two is not made for: leave it out"
        )
    model_type = models[head]
    settings = config.to_dict() | changes
    for key in ("model_type", "architectures", "auto_map", "transformers_version"):
        settings.pop(key, None)
    return model_type(config_type(**settings)).to(torch.float32)


def check_embedding_rank(config: PretrainedConfig, rank: int, widest: int) -> None:
    """Refuse word tables that cannot be factorised so.

    Args:
        config: of the teacher.
        rank: of the factorised table.
        widest: of the student's word table.

    Raises:
        UserError: saying why.
    """
    if family_name(config) not in COMPACT:
        raise UserError(
            f"student.embedding_size={rank}: the word table of {', '.join(COMPACT)} can be "
            f"factorised, the teacher is {config.model_type}"
        )
    if not 1 <= rank <= widest:
        raise UserError(
            f"student.embedding_size={rank}: from 1 to {widest}, the width of the student's table"
        )
    if getattr(config, "embedding_rank", None) is not None:
        raise UserError(f"student.embedding_size={rank}: the teacher's table is factorised already")


def factorize_embeddings(model: PreTrainedModel, rank: int) -> PreTrainedModel:
    """The model with its word table as a product ``V x r`` and ``r x H``.

    ALBERT's factorisation (Lan et al. 2020, section 3.1), started from the table's truncated
    singular value decomposition, the nearest one of that rank (Eckart and Young 1936).
    """
    weights = dict(model.state_dict())
    key = next(key for key in weights if key.endswith("embeddings.word_embeddings.weight"))
    table, projection = low_rank(weights.pop(key), rank)
    start = key.removesuffix("weight")
    weights |= {f"{start}table.weight": table, f"{start}projection.weight": projection}
    result = as_compact(
        model.config, head_name(model), embedding_rank=rank,
        attention_head_size=head_size(model.config),
    )  # fmt: skip
    result.load_state_dict(weights)
    return result


def low_rank(table: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """``(V, H)`` -> ``(V, r)`` and ``(H, r)``, whose product is nearest to it."""
    rows = table.double()
    _, vectors = torch.linalg.eigh(rows.T @ rows)
    vectors = vectors.flip(1)[:, :rank]
    return (rows @ vectors).float(), vectors.float().contiguous()
