"""Initial word embeddings of small students, computed from the teacher."""

import logging
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from distill.core.cache import (
    cache_key,
    discard_damaged,
    file_lock,
    get_or_create,
    note_use,
)
from distill.core.errors import UserError
from distill.data.text_preprocessor import tokenizer_hash
from distill.modeling.loading import call_model
from distill.modeling.packed_linear import packed_linears
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


def initial_table(
    start: Start, teacher: Teacher, width: int, kept: Tensor, cache_dir: Path
) -> Tensor | None:
    """Return one row per token of the student, ``(N, width)``; ``None`` for random.

    ``embeddings`` are the teacher's input embeddings, ``outputs`` its last hidden states of single
    tokens (model2vec, Tulkens and van Dongen 2024). Both are reduced by a principal component
    analysis and scaled.

    Args:
        start: what the rows are computed from.
        teacher: the teacher.
        width: width of the rows.
        kept: ids of the student's tokens in the teacher's tokenizer, ``(N,)``.
        cache_dir: where outputs are kept.
    """
    if start == "random":
        return None
    if start == "embeddings":
        table = embedding_weight(teacher.pretrained_model).detach().cpu().float()
        table = scale_rows(reduce_width(table[: len(teacher.processor)], width))
        return table[kept]
    return scale_rows(reduce_width(token_outputs(teacher, kept, cache_dir), width))


def token_outputs(teacher: Teacher, ids: Tensor, cache_dir: Path, batch_size: int = 512) -> Tensor:
    """Return the teacher's last hidden state of each of some tokens by itself, ``(N, H)``.

    Each token is computed once per teacher and cached: later calls compute those that are missing.

    Args:
        teacher: the teacher.
        ids: tokens, ``(N,)``.
        cache_dir: where outputs are kept.
        batch_size: number of tokens per forward pass.
    """
    key = cache_key(
        kind="alone", format=2, teacher=teacher.hash, tokenizer=tokenizer_hash(teacher.processor)
    )
    folder = cache_dir / "tokens"
    known: dict[int, Tensor] = {}
    for part in sorted(folder.glob(f"{key}-{'?' * len(key)}")):
        with file_lock(part):
            if not discard_damaged(part):
                continue
            stored = load_file(part / "rows.safetensors")
            note_use(part)
        known.update(zip(stored["ids"].tolist(), stored["rows"], strict=True))
    missing = torch.tensor([token for token in ids.tolist() if token not in known])
    if len(missing):

        def compute(partial: Path) -> None:
            log.info("student: computing the teacher's output for each of %d tokens", len(missing))
            rows = _compute_outputs(teacher, missing, batch_size)
            save_file({"ids": missing, "rows": rows}, partial / "rows.safetensors")

        content = cache_key(tokens=missing.tolist())
        get_or_create(folder / f"{key}-{content}", compute)
        rows = load_file(folder / f"{key}-{content}" / "rows.safetensors")["rows"]
        known.update(zip(missing.tolist(), rows, strict=True))
    return torch.stack([known[token] for token in ids.tolist()])


def _compute_outputs(teacher: Teacher, ids: Tensor, batch_size: int) -> Tensor:
    probe = teacher.processor("a", return_special_tokens_mask=True)
    inner = [i for i, special in enumerate(probe["special_tokens_mask"]) if not special]
    before, after = probe["input_ids"][: inner[0]], probe["input_ids"][inner[-1] + 1 :]
    model = teacher.pretrained_model
    encoder = model.base_model.eval()
    rows = []
    with torch.inference_mode(), packed_linears(encoder):
        for tokens in ids.to(model.device).split(batch_size):
            left, right = (
                tokens.new_tensor(special).expand(len(tokens), -1) for special in (before, after)
            )
            inputs = {"input_ids": torch.cat([left, tokens[:, None], right], dim=1)}
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            rows.append(call_model(encoder, inputs)[0][:, len(before)].float().cpu())
    return torch.cat(rows)


def scale_rows(table: Tensor) -> Tensor:
    """Scale all rows together to a root mean square of :data:`SCALE`."""
    return table * (SCALE / table.square().mean().sqrt().clamp(min=1e-12))


def reduce_width(table: Tensor, width: int) -> Tensor:
    """Return the first ``width`` principal components of the rows, ``(V, H)`` -> ``(V, width)``.

    Rows that have this width already are returned unchanged, not centered.
    """
    if width == table.shape[1]:
        return table.clone()
    centered = table.double() - table.double().mean(dim=0)
    _, vectors = torch.linalg.eigh(centered.T @ centered)
    return (centered @ vectors.flip(1)[:, :width]).float()
