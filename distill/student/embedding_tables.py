"""First word embeddings for small students, from what the teacher knows of each token."""

import logging
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from distill.core.cache import cache_key, get_or_create
from distill.core.errors import UserError
from distill.data.text_preprocessor import tokenizer_hash
from distill.modeling.loading import call_model
from distill.teacher.prepare import Teacher

log = logging.getLogger(__name__)

# Root mean square of the embeddings' numbers: those of published word vectors (GloVe's and
# model2vec's) are of this order, a BERT's are ten times smaller, too small for an LSTM's gates.
SCALE = 0.4

Start = Literal["random", "embeddings", "outputs"]


def check_start(start: str) -> None:
    """Refuse a start that does not exist."""
    if start not in ("random", "embeddings", "outputs"):
        raise UserError(f"student.start={start}: choose random, embeddings or outputs")


def embedding_width(
    start: Start, width: int | None, usual: int, teacher_config, option: str
) -> int:
    """The width of the embeddings: as asked for, or the usual one where the teacher has it.

    Raises:
        UserError: for one that the teacher's do not reach.
    """
    if start == "random":
        return width or usual
    widest = teacher_config.hidden_size
    if start == "embeddings":
        widest = getattr(teacher_config, "embedding_size", None) or widest
    if width is not None and width > widest:
        raise UserError(
            f"student.{option}={width}: the teacher's {start} are {widest} wide; take at most "
            "that, or student.start=random"
        )
    return width or min(usual, widest)


def initial_table(start: Start, teacher: Teacher, width: int, cache_dir: Path) -> Tensor | None:
    """One row for each token of the teacher's tokenizer, ``(V, width)``; ``None`` for random.

    ``embeddings`` takes the teacher's input embeddings, ``outputs`` what the teacher makes of each
    token alone (model2vec, Tulkens and van Dongen 2024). Both are reduced by a principal component
    analysis and scaled.
    """
    if start == "random":
        return None
    if start == "embeddings":
        table = teacher.model.get_input_embeddings().weight.detach().cpu().float()
        table = table[: len(teacher.processor)]
    else:
        table = token_outputs(teacher, cache_dir)
    table = reduce_width(table, width)
    return table * (SCALE / table.square().mean().sqrt().clamp(min=1e-12))


def token_outputs(teacher: Teacher, cache_dir: Path, batch_size: int = 512) -> Tensor:
    """The teacher's last hidden state of each token, read without any other, ``(V, H)``.

    Computed once for a teacher, and kept.
    """
    key = cache_key(
        kind="alone", format=1, teacher=teacher.hash, tokenizer=tokenizer_hash(teacher.processor)
    )
    folder = cache_dir / "tokens" / key

    def compute(partial: Path) -> None:
        count = len(teacher.processor)
        log.info("student: what the teacher makes of each of %d tokens", count)
        probe = teacher.processor("a", return_special_tokens_mask=True)
        inside = [i for i, special in enumerate(probe["special_tokens_mask"]) if not special]
        before, after = probe["input_ids"][: inside[0]], probe["input_ids"][inside[-1] + 1 :]
        encoder = teacher.model.base_model.eval()
        rows = []
        with torch.inference_mode():
            for ids in torch.arange(count, device=teacher.model.device).split(batch_size):
                around = [ids.new_tensor(side).expand(len(ids), -1) for side in (before, after)]
                ids = torch.cat([around[0], ids[:, None], around[1]], dim=1)
                inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
                rows.append(call_model(encoder, inputs)[0][:, len(before)].float().cpu())
        save_file({"rows": torch.cat(rows)}, partial / "rows.safetensors")

    get_or_create(folder, compute)
    return load_file(folder / "rows.safetensors")["rows"]


def reduce_width(table: Tensor, width: int) -> Tensor:
    """The ``width`` principal components of the rows, ``(V, H)`` -> ``(V, width)``.

    The rows as they are where nothing is to be reduced.
    """
    if width == table.shape[1]:
        return table.clone()
    centred = table.double() - table.double().mean(dim=0)
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    return (centred @ vectors.flip(1)[:, :width]).float()
