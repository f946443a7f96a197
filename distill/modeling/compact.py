"""Convert a family's model to its compact class, and embedding tables to low rank."""

from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from distill.core.errors import UserError
from distill.modeling.architectures import COMPACT
from distill.modeling.families import family_name


def head_size(config: PretrainedConfig) -> int:
    """Return the width of an attention head."""
    own = getattr(config, "attention_head_size", None)
    return own or config.hidden_size // config.num_attention_heads


def head_name(model: PreTrainedModel) -> str:
    """Return the suffix of the class name that names the head: ``ForSequenceClassification``."""
    return "For" + type(model).__name__.partition("For")[2]


def as_compact(
    config: PretrainedConfig, head: str = "ForSequenceClassification", **changes: Any
) -> PreTrainedModel:
    """Return a randomly initialized compact model of a family.

    Args:
        config: configuration of a model of the family.
        head: suffix of the class name that names the head.
        changes: settings that differ from ``config``.

    Raises:
        UserError: for a masked language model with a factorized embedding table.
    """
    config_type, models = COMPACT[family_name(config)]
    if head == "ForMaskedLM" and changes.get("embedding_rank") is not None:
        raise UserError(
            "student.embedding_size: a masked language model also uses its embedding table as the "
            "output layer, which a product of two tables cannot be: leave it out"
        )
    model_type = models[head]
    settings = config.to_dict() | changes
    for key in ("model_type", "architectures", "auto_map", "transformers_version"):
        settings.pop(key, None)
    return model_type(config_type(**settings)).to(torch.float32)


def check_embedding_rank(config: PretrainedConfig, rank: int, widest: int) -> None:
    """Validate that an embedding table can be factorized.

    Args:
        config: configuration of the teacher.
        rank: rank of the factorized table.
        widest: width of the student's embedding table.

    Raises:
        UserError: if it cannot.
    """
    if family_name(config) not in COMPACT:
        raise UserError(
            f"student.embedding_size={rank}: the embedding table of {', '.join(COMPACT)} can be "
            f"factorized, the teacher is {config.model_type}: leave it out"
        )
    if not 1 <= rank <= widest:
        raise UserError(
            f"student.embedding_size={rank}: it must be from 1 to {widest}, the width of the "
            "student's table"
        )
    if getattr(config, "embedding_rank", None) is not None:
        raise UserError(
            f"student.embedding_size={rank}: the teacher's table is factorized already, leave it "
            "out"
        )


def factorize_embeddings(model: PreTrainedModel, rank: int) -> PreTrainedModel:
    """Return the model with its embedding table as a product ``V x r`` and ``r x H``.

    ALBERT's factorization (Lan et al. 2020, section 3.1), initialized with the truncated singular
    value decomposition of the table, its best approximation of that rank (Eckart and Young 1936).
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
    """Return the best factors of a table ``(V, H)``: ``(V, r)`` and ``(H, r)``."""
    rows = table.double()
    _, vectors = torch.linalg.eigh(rows.T @ rows)
    vectors = vectors.flip(1)[:, :rank]
    return (rows @ vectors).float(), vectors.float().contiguous()
