"""Smaller vocabularies: the tokens of the training texts, and those that any text needs.

Most parameters of a small student are in its embedding table, and most of its rows are tokens that
never occur in the texts of a task (Abdaoui et al. 2020, "Load What You Need", trim languages so).
"""

import copy
import json
import logging
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from distill.core.errors import UserError
from distill.data.prepare import PreparedData
from distill.modeling.families import POSITIONS_AFTER_PADDING, family_name
from distill.student.token_statistics import token_counts

log = logging.getLogger(__name__)

Vocabulary = Literal["full", "corpus"] | int
"""All tokens, those of the training texts, or a number of their most frequent ones."""


def check_vocabulary(vocabulary: Vocabulary) -> None:
    """Raise a ``UserError`` for an invalid value of ``student.vocabulary``."""
    is_count = isinstance(vocabulary, int) and not isinstance(vocabulary, bool) and vocabulary >= 1
    if vocabulary not in ("full", "corpus") and not is_count:
        raise UserError(
            f"student.vocabulary={vocabulary}: choose full, corpus (the tokens of the training "
            "texts) or the number of their most frequent tokens to keep"
        )


def trim_tokenizer(
    tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary, data: PreparedData
) -> tuple[PreTrainedTokenizerBase, Tensor]:
    """Return a tokenizer with fewer tokens, and their ids in the original tokenizer.

    The requested tokens and those that :func:`required_tokens` adds are kept, so that

    - a text whose tokens are all kept is tokenized exactly as before;
    - no further word becomes unknown: it is split into smaller pieces, in the end characters.

    Args:
        tokenizer: a fast tokenizer; it is not changed.
        vocabulary: tokens to keep.
        data: its training texts are counted.

    Returns:
        The tokenizer and the original ids of its tokens in the order of the new ids, ``(N,)``.

    Raises:
        UserError: for a tokenizer that is not WordPiece, BPE or Unigram.
    """
    size = len(tokenizer)
    if vocabulary == "full":
        return tokenizer, torch.arange(size)
    state = _tokenizer_state(tokenizer)
    counts = token_counts(data, tokenizer)
    wanted = np.flatnonzero(counts)
    if isinstance(vocabulary, int):
        wanted = np.argsort(-counts, kind="stable")[:vocabulary]
        wanted = wanted[counts[wanted] > 0]
    kept = _order_tokens(
        required_tokens(state, wanted.tolist()) | set(tokenizer.all_special_ids), tokenizer
    )
    log.info(
        "student: %d of %d tokens are kept, %d of them for texts of any kind",
        len(kept), size, len(kept) - len(wanted),
    )  # fmt: skip
    return _with_tokens(tokenizer, state, kept), torch.tensor(kept)


def required_tokens(state: dict[str, Any], wanted: Iterable[int]) -> set[int]:
    """Return the ids of some tokens and of those that must be kept with them.

    These are all special and added tokens, and

    - for WordPiece, which takes the longest piece that fits: single characters, and pieces with a
      character that is no piece by itself;
    - for BPE, which merges pairs: tokens that no merge creates (characters, bytes), and for each
      kept token, recursively, the parts of every merge that creates it;
    - for Unigram, which takes the most probable pieces: single characters and bytes, pieces with a
      character that is no piece by itself, and the least probable piece, which determines the
      score of unknown ones.

    Args:
        state: content of the tokenizer's file.
        wanted: ids of the requested tokens.
    """
    ids = _model_ids(state)
    kept = set(wanted) | {token["id"] for token in state["added_tokens"]}
    model = state["model"]
    if model["type"] == "BPE":
        return _close_under_merges(kept, ids, _merges(model))
    prefix = model.get("continuing_subword_prefix") or "\0"
    kept |= {index for piece, index in ids.items() if not _is_divisible(piece, ids, prefix)}
    if model["type"] == "Unigram":
        kept |= {index for piece, index in ids.items() if piece.startswith("<0x")}
        kept.add(min(range(len(model["vocab"])), key=lambda index: model["vocab"][index][1]))
        if model["unk_id"] is not None:
            kept.add(model["unk_id"])
    return kept


def _is_divisible(piece: str, ids: dict[str, int], prefix: str) -> bool:
    """Return whether a piece of several characters consists of pieces of one character."""
    is_continuation = piece.startswith(prefix)
    characters = piece.removeprefix(prefix)
    character_prefix = prefix if prefix != "\0" else ""
    parts = [
        (character_prefix if is_continuation or index else "") + character
        for index, character in enumerate(characters)
    ]
    return len(parts) > 1 and all(part in ids for part in parts)


def _close_under_merges(
    kept: set[int], ids: dict[str, int], merges: list[tuple[str, str, str]]
) -> set[int]:
    """Add tokens that no merge creates, and the parts of every merge that creates a kept token."""
    parts: dict[str, set[str]] = {}
    for left, right, merged in merges:
        parts.setdefault(merged, set()).update((left, right))
    names = {index: token for token, index in ids.items()}
    kept = kept | {index for token, index in ids.items() if token not in parts or len(token) == 1}
    queue = [names[index] for index in kept if index in names]
    while queue:
        for part in parts.get(queue.pop(), ()):
            if ids[part] not in kept:
                kept.add(ids[part])
                queue.append(part)
    return kept


def trim_model(model: PreTrainedModel, kept: Tensor, tokenizer: PreTrainedTokenizerBase) -> None:
    """Reduce a model to the tokens of a smaller tokenizer, in embeddings, output and config.

    Args:
        model: changed in place.
        kept: original ids in the order of the new ones.
        tokenizer: the smaller tokenizer.

    Raises:
        UserError: if positions depend on an id of the padding token that cannot be kept.
    """
    new_id = {old: new for new, old in enumerate(kept.tolist())}
    padding = model.config.pad_token_id
    # Position ids that start after the padding id require that this id does not change.
    after_padding = family_name(model.config) in POSITIONS_AFTER_PADDING
    if after_padding and new_id.get(padding) != padding:
        raise UserError(
            "student.vocabulary: the id of the padding token, from which this teacher's positions "
            "start, is too high for so few tokens: keep more"
        )
    embeddings: Any = model.get_input_embeddings()
    table = getattr(embeddings, "table", embeddings)  # of a factorized embedding
    output: Any = model.get_output_embeddings()
    if output is not None:
        tied = output.weight is table.weight
        output.weight = nn.Parameter(output.weight.detach()[kept].clone())
        if output.bias is not None:
            output.bias = nn.Parameter(output.bias.detach()[kept].clone())
        output.out_features = len(kept)
    table.weight = nn.Parameter(table.weight.detach()[kept].clone())
    if output is not None and tied:
        output.weight = table.weight
    table.num_embeddings = len(kept)
    if table.padding_idx is not None:
        table.padding_idx = new_id.get(table.padding_idx)
    model.config.vocab_size = len(kept)
    for key, value in model.config.to_dict().items():
        if key.endswith("_token_id") and isinstance(value, int):
            setattr(model.config, key, new_id.get(value))
    if model.config.pad_token_id is None:  # there was none, or it is not the tokenizer's
        model.config.pad_token_id = tokenizer.pad_token_id


def _tokenizer_state(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Return the content of a fast tokenizer's file."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    state: dict[str, Any] = json.loads(backend.to_str()) if backend is not None else {"model": {}}
    kind = state["model"].get("type")
    if kind not in ("WordPiece", "BPE", "Unigram"):
        raise UserError(
            "student.vocabulary: only WordPiece, BPE and Unigram can be reduced, the teacher's "
            f"tokenizer is {kind or type(tokenizer).__name__}: set student.vocabulary=full"
        )
    return state


def _model_ids(state: dict[str, Any]) -> dict[str, int]:
    """Return the ids of the tokenizer model's tokens, without added tokens."""
    vocabulary = state["model"]["vocab"]
    if isinstance(vocabulary, dict):
        return vocabulary
    return {piece: index for index, (piece, _) in enumerate(vocabulary)}


def _merges(model: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return left part, right part and result of each merge."""
    prefix = model.get("continuing_subword_prefix") or ""
    # Files have lists of two, or strings with a space in between.
    pairs = [
        pair.split(" ", 1) if isinstance(pair, str) else tuple(pair) for pair in model["merges"]
    ]
    return [(left, right, left + right.removeprefix(prefix)) for left, right in pairs]


def _order_tokens(kept: set[int], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the ids in ascending order; the padding token keeps its id if that is small enough."""
    order = sorted(kept)
    padding = tokenizer.pad_token_id
    if padding is not None and padding < len(order):
        order.remove(padding)
        order.insert(padding, padding)
    return order


def _with_tokens(
    tokenizer: PreTrainedTokenizerBase, state: dict[str, Any], kept: list[int]
) -> PreTrainedTokenizerBase:
    """Return a copy of a tokenizer that has these tokens only."""
    new_id = {old: new for new, old in enumerate(kept)}
    model = state["model"]
    if isinstance(model["vocab"], dict):
        # Ids of added tokens may be beyond the model's vocabulary: the new ids have no gaps.
        model["vocab"] = {
            token: new_id[old] for token, old in model["vocab"].items() if old in new_id
        }
    else:
        old_pieces, order = model["vocab"], [old for old in kept if old < len(model["vocab"])]
        model["vocab"] = [old_pieces[old] for old in order]
        if model["unk_id"] is not None:
            model["unk_id"] = new_id[model["unk_id"]]
    if model["type"] == "BPE":
        model["merges"] = [
            [left, right]
            for left, right, merged in _merges(model)
            if {left, right, merged} <= model["vocab"].keys()
        ]
    for token in state["added_tokens"]:
        token["id"] = new_id[token["id"]]
    state["added_tokens"].sort(key=lambda token: token["id"])
    state["truncation"] = state["padding"] = None
    _renumber(state["post_processor"], new_id)
    result: Any = copy.deepcopy(tokenizer)
    result._tokenizer = Tokenizer.from_str(json.dumps(state))
    # Arguments of the class; they are not read again, but should not contradict.
    for name, value in (("_vocab", model["vocab"]), ("_merges", model.get("merges"))):
        if hasattr(result, name):
            setattr(result, name, value)
    assert len(result) == len(kept)
    trimmed: PreTrainedTokenizerBase = result
    return trimmed


def _renumber(processor: dict[str, Any] | None, new_id: dict[int, int]) -> None:
    """Change the ids of the special tokens that a post-processor adds, in place."""
    if processor is None:
        return
    for inner in processor.get("processors", []):
        _renumber(inner, new_id)
    for name in ("sep", "cls"):
        if name in processor:
            processor[name] = [processor[name][0], new_id[processor[name][1]]]
    if isinstance(processor.get("special_tokens"), dict):
        for token in processor["special_tokens"].values():
            token["ids"] = [new_id[old] for old in token["ids"]]
