"""Masked tokens: which of a row's are hidden from the model, drawn when a batch is made."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from distill.data.preprocessor import PassSeed

# Which word of its text each token belongs to, -1 for none; where whole words are masked.
WORDS = "words"


class TokenMasking:
    """Hides some tokens of each row, and says which ones and what they were.

    Masked are ``round(probability * n)`` of a row's n ordinary tokens, at least one, as BERT's own
    data have it (Devlin et al. 2019, section 3.1, task 1): most of them become the mask token, some
    any other token, and some stay what they are. Special tokens are never masked, nor do they stand
    in for others. Which ones is drawn without replacement from what the row holds and the pass
    alone: not from the batch it stands in, nor from the model that reads it. An evaluation draws
    the same ones every time.

    Whole words (BERT's later checkpoints): words are drawn one after another, and one that would
    make too many is passed over, unless it is the first; so there may be a few less, or more in a
    row of long words. What the end of a row leaves of a word is a word of its own.

    Args:
        tokenizer: of teacher and student.
        probability: share of the tokens that are masked.
        mask_share: of those, the share that becomes the mask token;
        random_share: that becomes any ordinary token; the others stay.
        whole_word: mask all tokens of a word or none.
        weights: ``(V,)``: in training a token is drawn with a probability that is proportional to
            its weight, a word to the mean of its tokens'; ``None``: all are alike.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        probability: float = 0.15,
        mask_share: float = 0.8,
        random_share: float = 0.1,
        whole_word: bool = False,
        weights: NDArray[np.float64] | None = None,
    ):
        self.is_ordinary = ordinary_tokens(tokenizer)
        self.ordinary_ids = np.flatnonzero(self.is_ordinary)
        self.mask_id = tokenizer.mask_token_id
        self.probability, self.whole_word = probability, whole_word
        self.mask_share, self.random_share = mask_share, random_share
        self.weights = weights

    def __call__(self, rows: Mapping[str, Any], draw: PassSeed) -> dict[str, Any]:
        """Mask rows.

        Args:
            rows: with ``input_ids``, and ``words`` where whole words are masked; or ``members``,
                the same rows as each of several models reads them.
            draw: the pass that they are read in.

        Returns:
            The rows with masked ``input_ids``, the masked ``positions`` in their order, and the
            ids that stood there as ``label``.
        """
        if "members" in rows:
            members = {name: self(own, draw) for name, own in rows["members"].items()}
            first = next(iter(members.values()))
            return {"members": members, "positions": first["positions"], "label": first["label"]}
        masked = [
            self._mask(np.asarray(ids, dtype=np.int64), words, draw)
            for ids, words in zip(
                rows["input_ids"], rows.get(WORDS) or [None] * len(rows["input_ids"]), strict=True
            )
        ]
        ids, positions, labels = map(list, zip(*masked, strict=True))
        kept = {key: value for key, value in rows.items() if key != WORDS}
        return kept | {"input_ids": ids, "positions": positions, "label": labels}

    def _mask(
        self, ids: NDArray[np.int64], words: Sequence[int] | None, draw: PassSeed
    ) -> tuple[NDArray[np.int64], list[int], list[int]]:
        """One row: what is read, where it was changed (or only asked about), and what stood there.

        The random numbers are drawn for all tokens, whether or not they are masked.
        """
        random = np.random.default_rng([*(draw or ()), _content_seed(ids)])
        which, what, instead = random.random((3, len(ids)))
        candidates = np.flatnonzero(self.is_ordinary[ids])
        number = max(1, int(self.probability * len(candidates) + 0.5))
        weights = np.ones(len(ids))
        if self.weights is not None and draw is not None:
            weights = self.weights[ids]
        if self.whole_word:
            positions = _whole_word_positions(np.asarray(words), candidates, number, which, weights)
        else:
            order = np.argsort(
                _sampling_keys(which[candidates], weights[candidates]), kind="stable"
            )
            positions = np.sort(candidates[order[:number]])
        labels, what = ids[positions], what[positions]
        ids = ids.copy()
        ids[positions[what < self.mask_share]] = self.mask_id
        others = positions[(what >= self.mask_share) & (what < self.mask_share + self.random_share)]
        ids[others] = self.ordinary_ids[(instead[others] * len(self.ordinary_ids)).astype(np.int64)]
        return ids, positions.tolist(), labels.tolist()


def ordinary_tokens(tokenizer: PreTrainedTokenizerBase) -> NDArray[np.bool_]:
    """Which ids are tokens of texts and nothing special, ``(V,)``."""
    ids = list(tokenizer.get_vocab().values())
    result = np.zeros(max(ids) + 1, dtype=bool)
    result[ids] = True
    result[[index for index in tokenizer.all_special_ids if index < len(result)]] = False
    return result


def inverse_frequency_weights(rows: Dataset, size: int, exponent: float) -> NDArray[np.float64]:
    """A weight for each token by how rare it is in some rows, ``(V,)``.

    DistilBERT's training masks a token with a probability proportional to ``max(count, 1)`` to
    the power of ``-exponent``, after XLM and word2vec.

    Args:
        rows: encoded.
        size: of the vocabulary.
        exponent: 0 makes all alike.
    """
    counts = np.zeros(size, dtype=np.int64)
    tables = rows.select_columns("input_ids").with_format("arrow")
    for table in tables.iter(batch_size=10_000):
        ids = table.column("input_ids").combine_chunks().flatten()
        counts += np.bincount(ids.to_numpy(zero_copy_only=False), minlength=size)
    return np.maximum(counts, 1.0) ** -exponent


def _content_seed(ids: NDArray[np.int64]) -> int:
    """64 bits of a row's tokens: it is known by them, whatever its place in the split."""
    return int.from_bytes(hashlib.blake2b(ids.tobytes(), digest_size=8).digest(), "little")


def _sampling_keys(uniform: NDArray, weights: NDArray) -> NDArray:
    """Whoever takes the smallest ones has drawn without replacement in proportion to the weights.

    Efraimidis and Spirakis 2006, "Weighted random sampling with a reservoir".
    """
    return -np.log1p(-uniform) / weights


def _whole_word_positions(
    words: NDArray, candidates: NDArray, number: int, uniform: NDArray, weights: NDArray
) -> NDArray:
    """Positions of whole words, about so many."""
    own = words[candidates]
    starts = np.flatnonzero(np.r_[True, own[1:] != own[:-1]])
    pieces = np.split(candidates, starts[1:])
    means = np.array([weights[piece].mean() for piece in pieces])
    order = np.argsort(_sampling_keys(uniform[candidates[starts]], means), kind="stable")
    chosen: list[NDArray] = []
    taken = 0
    for index in order:
        if taken >= number:
            break
        if not chosen or taken + len(pieces[index]) <= number:
            chosen.append(pieces[index])
            taken += len(pieces[index])
    return np.sort(np.concatenate(chosen))
