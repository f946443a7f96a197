"""Dynamic masking of tokens, drawn whenever a batch is made."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from distill.data.preprocessor import PassSeed

# Column with the index of the word that each token belongs to, -1 for none; for whole-word masking.
WORDS = "words"


class TokenMasking:
    """Masks some tokens of each row and returns their positions and original ids.

    ``round(probability * n)`` of the n ordinary tokens of a row are masked, at least one, as in
    BERT's pretraining (Devlin et al. 2019, section 3.1, task 1): most of them are replaced by the
    mask token, some by a random token, and some are unchanged. Special tokens are neither masked
    nor drawn as random tokens. Positions are drawn without replacement, depending on the content of
    the row and the pass over the data alone, not on the batch or the model. An evaluation always
    draws the same ones.

    Whole words (BERT's later checkpoints): words are drawn one by one, and a word that would exceed
    the number is skipped unless it is the first; there may thus be a few tokens less, or more in a
    row of long words. A word that is truncated at the end of a row counts as a word.

    Args:
        tokenizer: tokenizer of teacher and student.
        probability: fraction of the tokens that is masked.
        mask_share: fraction of the masked tokens that is replaced by the mask token.
        random_share: fraction that is replaced by a random ordinary token; the rest is unchanged.
        whole_word: whether all tokens of a word are masked, or none.
        weights: sampling weight of each token in training, ``(V,)``; a word has the mean weight of
            its tokens. ``None``: equal weights.
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

    def __call__(self, rows: Mapping[str, Any], pass_seed: PassSeed) -> dict[str, Any]:
        """Mask rows.

        Args:
            rows: rows with ``input_ids``, and with ``words`` for whole-word masking; or with
                ``members``, the same rows encoded for each member of an ensemble.
            pass_seed: the pass over the data that the rows are read in.

        Returns:
            The rows with masked ``input_ids``, the masked ``positions`` in ascending order, and
            their original ids as ``label``.
        """
        if "members" in rows:
            members = {name: self(member, pass_seed) for name, member in rows["members"].items()}
            first = next(iter(members.values()))
            return {"members": members, "positions": first["positions"], "label": first["label"]}
        masked = [
            self._mask(np.asarray(ids, dtype=np.int64), words, pass_seed)
            for ids, words in zip(
                rows["input_ids"], rows.get(WORDS) or [None] * len(rows["input_ids"]), strict=True
            )
        ]
        ids, positions, labels = map(list, zip(*masked, strict=True))
        kept = {key: value for key, value in rows.items() if key != WORDS}
        return kept | {"input_ids": ids, "positions": positions, "label": labels}

    def _mask(
        self, ids: NDArray[np.int64], words: Sequence[int] | None, pass_seed: PassSeed
    ) -> tuple[NDArray[np.int64], list[int], list[int]]:
        """Return the masked ids of one row, the masked positions, and their original ids.

        Random numbers are drawn for all tokens, whether or not they are masked.
        """
        random = np.random.default_rng([*(pass_seed or ()), _content_seed(ids)])
        selection, action, replacement = random.random((3, len(ids)))
        candidates = np.flatnonzero(self.is_ordinary[ids])
        number = max(1, int(self.probability * len(candidates) + 0.5))
        weights = np.ones(len(ids))
        if self.weights is not None and pass_seed is not None:
            weights = self.weights[ids]
        if self.whole_word:
            positions = _whole_word_positions(
                np.asarray(words), candidates, number, selection, weights
            )
        else:
            order = np.argsort(
                _sampling_keys(selection[candidates], weights[candidates]), kind="stable"
            )
            positions = np.sort(candidates[order[:number]])
        labels, action = ids[positions], action[positions]
        ids = ids.copy()
        ids[positions[action < self.mask_share]] = self.mask_id
        is_random = (action >= self.mask_share) & (action < self.mask_share + self.random_share)
        replaced = positions[is_random]
        drawn = (replacement[replaced] * len(self.ordinary_ids)).astype(np.int64)
        ids[replaced] = self.ordinary_ids[drawn]
        return ids, positions.tolist(), labels.tolist()


def ordinary_tokens(tokenizer: PreTrainedTokenizerBase) -> NDArray[np.bool_]:
    """Return which ids are tokens of texts, not special tokens, ``(V,)``."""
    ids = list(tokenizer.get_vocab().values())
    result = np.zeros(max(ids) + 1, dtype=bool)
    result[ids] = True
    result[[index for index in tokenizer.all_special_ids if index < len(result)]] = False
    return result


def inverse_frequency_weights(rows: Dataset, size: int, exponent: float) -> NDArray[np.float64]:
    """Return a sampling weight for each token by its rarity in some rows, ``(V,)``.

    DistilBERT's training masks a token with a probability proportional to ``max(count, 1)`` to
    the power of ``-exponent``, as XLM and word2vec do.

    Args:
        rows: encoded rows.
        size: size of the vocabulary.
        exponent: 0 makes all weights equal.
    """
    counts = np.zeros(size, dtype=np.int64)
    tables = rows.select_columns("input_ids").with_format("arrow")
    for table in tables.iter(batch_size=10_000):
        ids = table.column("input_ids").combine_chunks().flatten()
        counts += np.bincount(ids.to_numpy(zero_copy_only=False), minlength=size)
    return np.maximum(counts, 1.0) ** -exponent


def _content_seed(ids: NDArray[np.int64]) -> int:
    """Return a seed of 64 bits that depends on the tokens of a row alone."""
    return int.from_bytes(hashlib.blake2b(ids.tobytes(), digest_size=8).digest(), "little")


def _sampling_keys(uniform: NDArray, weights: NDArray) -> NDArray:
    """Return keys whose smallest are a sample without replacement in proportion to the weights.

    Efraimidis and Spirakis 2006, "Weighted random sampling with a reservoir".
    """
    return -np.log1p(-uniform) / weights


def _whole_word_positions(
    words: NDArray, candidates: NDArray, number: int, uniform: NDArray, weights: NDArray
) -> NDArray:
    """Return the positions of whole words that have about ``number`` tokens together."""
    word_of = words[candidates]
    starts = np.flatnonzero(np.r_[True, word_of[1:] != word_of[:-1]])
    pieces = np.split(candidates, starts[1:])
    means = np.array([weights[piece].mean() for piece in pieces])
    order = np.argsort(_sampling_keys(uniform[candidates[starts]], means), kind="stable")
    selected: list[NDArray] = []
    count = 0
    for index in order:
        if count >= number:
            break
        if not selected or count + len(pieces[index]) <= number:
            selected.append(pieces[index])
            count += len(pieces[index])
    return np.sort(np.concatenate(selected))
