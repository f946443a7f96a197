"""distill.data.collate"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

# The column of the tokens that a head reads, where it does not read the whole text.
POSITIONS = "positions"


class PaddingCollator:
    """Rows -> tensors, padded to the longest row of the batch.

    Args:
        tokenizer: whose padding values are used.
        transform: what the task makes of rows before, ``(rows, draw) -> rows``; ``draw`` is the
            pass of a training they are read in, ``None`` in an evaluation. It gives positions.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, transform: Callable | None = None):
        self.transform = transform
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.padding = {
            "input_ids": tokenizer.pad_token_id,
            "token_type_ids": tokenizer.pad_token_type_id,
        }

    def __call__(self, rows: Mapping[str, list]) -> dict[str, Tensor]:
        """Ids ``(B, L)``, ``attention_mask`` ``(B, L)``, and ``positions`` ``(B, P)`` if given."""
        lengths = np.array([len(ids) for ids in rows["input_ids"]])
        batch = {"attention_mask": (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)}
        for key, value in self.padding.items():
            if key in rows:
                batch[key] = _pad(rows[key], value)
        if POSITIONS in rows:
            batch[POSITIONS] = _pad(rows[POSITIONS], -1)
        return {key: torch.from_numpy(value) for key, value in batch.items()}


def _pad(rows: Sequence[Sequence[int]], value: int) -> np.ndarray:
    """Whole numbers of several lengths, filled up: ``(B, longest)``."""
    padded = np.full((len(rows), max(map(len, rows))), value, dtype=np.int64)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return padded
