"""Initial word embeddings of small students, computed from the teacher."""

import logging
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from distill.core.cache import cache_key, get_or_create
from distill.core.errors import UserError
from distill.data.text_preprocessor import tokenizer_hash
from distill.modeling.loading import call_model
from distill.teacher.prepare import Teacher

log = logging.getLogger(__name__)

# Root mean square of the values of the embeddings. Published word vectors (GloVe, model2vec) are of
# this order; those of a BERT are ten times smaller, too small for the gates of an LSTM.
SCALE = 0.4

Start = Literal["random", "embeddings", "outputs"]


def check_start(start: str) -> None:
    """Raise a ``UserError`` for an unknown value of ``student.start``."""
    if start not in ("random", "embeddings", "outputs"):
        raise UserError(f"student.start={start}: choose random, embeddings or outputs")


def embedding_width(
    start: Start, width: int | None, default: int, teacher_config: PreTrainedConfig, option: str
) -> int:
    """Return the width of the student's embeddings.

    Args:
        start: what they are computed from.
        width: requested width; ``None``: the default, or the teacher's width if smaller.
        default: default width.
        teacher_config: configuration of the teacher.
        option: name of the option with the width, for messages.

    Raises:
        UserError: for a width that exceeds the teacher's.
    """
    if start == "random":
        return width or default
    teacher_width: int = teacher_config.hidden_size
    if start == "embeddings":
        teacher_width = getattr(teacher_config, "embedding_size", None) or teacher_width
    if width is not None and width > teacher_width:
        raise UserError(
            f"student.{option}={width}: the teacher's {start} are {teacher_width} wide: choose at "
            "most that, or student.start=random"
        )
    return width or min(default, teacher_width)


def embedding_weight(model: PreTrainedModel) -> nn.Parameter:
    """Return the weight ``(V, D)`` of a model's embedding table."""
    table = model.get_input_embeddings()
    assert isinstance(table.weight, nn.Parameter)
    return table.weight


def initial_table(start: Start, teacher: Teacher, width: int, cache_dir: Path) -> Tensor | None:
    """Return one row per token of the teacher's tokenizer, ``(V, width)``; ``None`` for random.

    ``embeddings`` are the teacher's input embeddings, ``outputs`` its last hidden states of single
    tokens (model2vec, Tulkens and van Dongen 2024). Both are reduced by a principal component
    analysis and scaled.
    """
    if start == "random":
        return None
    if start == "embeddings":
        table = embedding_weight(teacher.pretrained_model).detach().cpu().float()
        table = table[: len(teacher.processor)]
    else:
        table = token_outputs(teacher, cache_dir)
    table = reduce_width(table, width)
    return table * (SCALE / table.square().mean().sqrt().clamp(min=1e-12))


def token_outputs(teacher: Teacher, cache_dir: Path, batch_size: int = 512) -> Tensor:
    """Return the teacher's last hidden state of each token by itself, ``(V, H)``.

    Computed once per teacher and cached.
    """
    key = cache_key(
        kind="alone", format=1, teacher=teacher.hash, tokenizer=tokenizer_hash(teacher.processor)
    )
    folder = cache_dir / "tokens" / key

    def compute(partial: Path) -> None:
        count = len(teacher.processor)
        log.info("student: computing the teacher's output for each of %d tokens", count)
        probe = teacher.processor("a", return_special_tokens_mask=True)
        inner = [i for i, special in enumerate(probe["special_tokens_mask"]) if not special]
        before, after = probe["input_ids"][: inner[0]], probe["input_ids"][inner[-1] + 1 :]
        model = teacher.pretrained_model
        encoder = model.base_model.eval()
        rows = []
        with torch.inference_mode():
            for tokens in torch.arange(count, device=model.device).split(batch_size):
                left, right = (
                    tokens.new_tensor(special).expand(len(tokens), -1)
                    for special in (before, after)
                )
                ids = torch.cat([left, tokens[:, None], right], dim=1)
                inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
                rows.append(call_model(encoder, inputs)[0][:, len(before)].float().cpu())
        save_file({"rows": torch.cat(rows)}, partial / "rows.safetensors")

    get_or_create(folder, compute)
    return load_file(folder / "rows.safetensors")["rows"]


def reduce_width(table: Tensor, width: int) -> Tensor:
    """Return the first ``width`` principal components of the rows, ``(V, H)`` -> ``(V, width)``.

    Rows that have this width already are returned unchanged, not centered.
    """
    if width == table.shape[1]:
        return table.clone()
    centered = table.double() - table.double().mean(dim=0)
    _, vectors = torch.linalg.eigh(centered.T @ centered)
    return (centered @ vectors.flip(1)[:, :width]).float()
