"""A smaller vocabulary: the tokens that the training texts need, and what keeps any text readable.

For a small student the word table is most of its parameters, and most of its rows are tokens that a
task's texts never have (Abdaoui et al. 2020, "Load What You Need", trim languages so).
"""

import copy
import json
import logging
from collections.abc import Iterable

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from distill.core.errors import UserError
from distill.data.prepare import PreparedData
from distill.modeling.families import find_family
from distill.student.token_statistics import token_counts

log = logging.getLogger(__name__)

Vocabulary = str | int


def check_vocabulary(vocabulary: Vocabulary) -> None:
    """Refuse what is no choice of tokens, before anything is trained."""
    number = isinstance(vocabulary, int) and not isinstance(vocabulary, bool)
    if vocabulary not in ("full", "corpus") and not (number and vocabulary >= 1):
        raise UserError(
            f"student.vocabulary={vocabulary}: choose full, corpus (the tokens of the training "
            "texts) or how many of their most frequent tokens"
        )


def trim_tokenizer(
    tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary, data: PreparedData
) -> tuple[PreTrainedTokenizerBase, Tensor]:
    """A tokenizer with fewer tokens, and which of the old ones they are.

    Kept are the tokens asked for and those that :func:`merge_closure` adds, so that

    - a text whose tokens are all kept is read exactly as before;
    - no word becomes unknown that was not: it is read in smaller pieces, in the end characters.

    Args:
        tokenizer: a fast one; it is left as it is.
        vocabulary: ``full``, ``corpus`` or a number, as :func:`check_vocabulary` allows.
        data: whose training texts are counted.

    Returns:
        The tokenizer and the old ids of its tokens in the order of their new ones, ``(N,)``.

    Raises:
        UserError: for a tokenizer of another kind.
    """
    size = len(tokenizer)
    if vocabulary == "full":
        return tokenizer, torch.arange(size)
    state = _state(tokenizer)
    counts = token_counts(data, tokenizer)
    wanted = np.flatnonzero(counts)
    if isinstance(vocabulary, int):
        wanted = np.argsort(-counts, kind="stable")[:vocabulary]
        wanted = wanted[counts[wanted] > 0]
    kept = _placed(
        merge_closure(state, wanted.tolist()) | set(tokenizer.all_special_ids), tokenizer
    )
    log.info(
        "student: %d of %d tokens are kept, %d of them for texts of any kind",
        len(kept), size, len(kept) - len(wanted),
    )  # fmt: skip
    return _with_tokens(tokenizer, state, kept), torch.tensor(kept)


def merge_closure(state: dict, wanted: Iterable[int]) -> set[int]:
    """What has to be kept along with some tokens, and they themselves.

    All special and added tokens, and

    - of WordPiece, which takes the longest piece that fits: single characters, and pieces with a
      character that is none of its own;
    - of BPE, which merges pairs: whatever no merge makes (characters, bytes), and for each token
      that is kept the parts of every merge that makes it, and theirs;
    - of Unigram, which takes the likeliest pieces: single characters and bytes, pieces with a
      character that is none of its own, and the least likely piece, which says how unlikely an
      unknown one is.

    Args:
        state: of the tokenizer, as its file has it.
        wanted: ids.
    """
    ids = _ids(state)
    kept = set(wanted) | {token["id"] for token in state["added_tokens"]}
    model = state["model"]
    if model["type"] == "BPE":
        return _closed_under_merges(kept, ids, _merges(model))
    prefix = model.get("continuing_subword_prefix") or "\0"
    kept |= {index for piece, index in ids.items() if not _falls_apart(piece, ids, prefix)}
    if model["type"] == "Unigram":
        kept |= {index for piece, index in ids.items() if piece.startswith("<0x")}
        kept.add(min(range(len(model["vocab"])), key=lambda index: model["vocab"][index][1]))
        if model["unk_id"] is not None:
            kept.add(model["unk_id"])
    return kept


def _falls_apart(piece: str, ids: dict[str, int], prefix: str) -> bool:
    """Whether a piece of several characters can be written with pieces of one."""
    inner = piece.startswith(prefix)
    characters = piece.removeprefix(prefix)
    following = prefix if prefix != "\0" else ""
    parts = [
        (following if inner or index else "") + character
        for index, character in enumerate(characters)
    ]
    return len(parts) > 1 and all(part in ids for part in parts)


def _closed_under_merges(
    kept: set[int], ids: dict[str, int], merges: list[tuple[str, str, str]]
) -> set[int]:
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
    """Give a model the tokens of a smaller tokenizer: rows of its table, and ids in its config.

    Args:
        model: changed in place.
        kept: old ids in the order of the new ones.
        tokenizer: the smaller one.
    """
    new_id = {old: new for new, old in enumerate(kept.tolist())}
    padding = model.config.pad_token_id
    family = find_family(model.config)
    # Position ids that start after the padding id require that it stays what it is.
    after_padding = family is not None and family.positions_after_padding
    if after_padding and new_id.get(padding) != padding:
        raise UserError(
            "student.vocabulary: the padding token has too high an id to keep it, which this "
            "teacher's positions count from"
        )
    embeddings = model.get_input_embeddings()
    table = getattr(embeddings, "table", embeddings)  # of a factorised one
    output = model.get_output_embeddings()
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
    if model.config.pad_token_id is None:  # none, or not the tokenizer's
        model.config.pad_token_id = tokenizer.pad_token_id


def _state(tokenizer: PreTrainedTokenizerBase) -> dict:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    state = json.loads(backend.to_str()) if backend is not None else {"model": {}}
    kind = state["model"].get("type")
    if kind not in ("WordPiece", "BPE", "Unigram"):
        raise UserError(
            "student.vocabulary: the teacher's tokenizer is no WordPiece, BPE or Unigram but "
            f"{kind or type(tokenizer).__name__}: leave it at full"
        )
    return state


def _ids(state: dict) -> dict[str, int]:
    """Ids of the model's tokens, without those that were added to it."""
    vocabulary = state["model"]["vocab"]
    if isinstance(vocabulary, dict):
        return vocabulary
    return {piece: index for index, (piece, _) in enumerate(vocabulary)}


def _merges(model: dict) -> list[tuple[str, str, str]]:
    """Left, right and what they make, whether the file has pairs or texts with a space."""
    prefix = model.get("continuing_subword_prefix") or ""
    pairs = [
        pair.split(" ", 1) if isinstance(pair, str) else tuple(pair) for pair in model["merges"]
    ]
    return [(left, right, left + right.removeprefix(prefix)) for left, right in pairs]


def _placed(kept: set[int], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """In the old order, but the padding token at its own place where there are so many tokens."""
    order = sorted(kept)
    padding = tokenizer.pad_token_id
    if padding is not None and padding < len(order):
        order.remove(padding)
        order.insert(padding, padding)
    return order


def _with_tokens(
    tokenizer: PreTrainedTokenizerBase, state: dict, kept: list[int]
) -> PreTrainedTokenizerBase:
    new_id = {old: new for new, old in enumerate(kept)}
    model = state["model"]
    if isinstance(model["vocab"], dict):
        # Added tokens may lie beyond the model's own vocabulary: ids stay without gaps.
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
    result = copy.deepcopy(tokenizer)
    result._tokenizer = Tokenizer.from_str(json.dumps(state))
    # What the class was made from; it is not read again, but should not contradict.
    for name, value in (("_vocab", model["vocab"]), ("_merges", model.get("merges"))):
        if hasattr(result, name):
            setattr(result, name, value)
    assert len(result) == len(kept)
    return result


def _renumber(processor: dict | None, new_id: dict[int, int]) -> None:
    """Change the ids that a post-processor puts around texts, in place."""
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
