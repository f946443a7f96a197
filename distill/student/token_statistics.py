"""Statistics of the tokens in the training texts."""

from collections.abc import Iterator
from weakref import WeakKeyDictionary

import numpy as np
from transformers import PreTrainedTokenizerBase

from distill.data.prepare import PreparedData

# Splits that must not influence a student.
HELD_OUT = ("validation", "test")
# Counts by tokenizer, and by its size and the splits' hashes: every seed asks for the same.
_COUNTED: WeakKeyDictionary[PreTrainedTokenizerBase, dict[str, np.ndarray]] = WeakKeyDictionary()


def iter_training_texts(data: PreparedData, size: int = 1000) -> Iterator[list[str]]:
    """Yield lists of at most ``size`` texts that a student is trained on, labeled or not."""
    for split, rows in data.splits.items():
        if split in HELD_OUT:
            continue
        columns = [column for column in ("text", "text_pair") if column in rows.column_names]
        for start in range(0, len(rows), size):
            batch = rows[start : start + size]
            for column in columns:
                yield batch[column]


def token_counts(data: PreparedData, tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """Count each token in the training texts, ``(V,)``, without special tokens."""
    counted, key = (
        _COUNTED.setdefault(tokenizer, {}),
        repr((len(tokenizer), sorted(data.hashes.items()))),
    )
    if key not in counted:
        counted[key] = _count_tokens(data, tokenizer)
    return counted[key].copy()


def _count_tokens(data: PreparedData, tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    counts = np.zeros(len(tokenizer), dtype=np.int64)
    for texts in iter_training_texts(data):
        encoded = tokenizer(
            texts, add_special_tokens=False, truncation=False, return_attention_mask=False,
            verbose=False,
        )  # fmt: skip
        ids = np.concatenate([np.asarray(row, dtype=np.int64) for row in encoded["input_ids"]])
        counts += np.bincount(ids, minlength=len(counts))
    return counts


def has_pairs(data: PreparedData) -> bool:
    """Return whether the examples are pairs of texts."""
    return "text_pair" in data.splits["train"].column_names
