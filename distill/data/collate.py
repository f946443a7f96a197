"""Encoded rows collated into tensors."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from distill.data.preprocessor import BatchTransform, Field, Views


class Collator(Protocol):
    """Makes a batch of encoded rows.

    Attributes:
        fields: model inputs of the batch.
        transform: applied to the rows before; ``None``: nothing.
        views: of each example, of which training draws one; ``None``: there are none.
    """

    fields: tuple[Field, ...]
    transform: BatchTransform | None
    views: Views | None

    def __call__(self, rows: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the model inputs of some rows."""


class PaddingCollator:
    """Collates the declared fields of encoded rows, padded to the longest row of the batch.

    Args:
        fields: model inputs that the preprocessor declares.
        transform: applied to the rows before, whenever a batch is made; ``None``: nothing.
        views: of each example, of which training draws one; ``None``: there are none.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        transform: BatchTransform | None = None,
        views: Views | None = None,
    ):
        self.fields, self.transform, self.views = tuple(fields), transform, views

    def with_view(self, number: int) -> "PaddingCollator":
        """Return a collator that shows one view of every example."""
        assert self.views is not None
        return PaddingCollator(self.fields, self.transform, self.views.with_view(number))

    def __call__(self, rows: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return a tensor for each field that the rows have: ``(B, longest)`` or ``(B, ...)``."""
        batch = {}
        for field in self.fields:
            column = rows.get(field.mask_of or field.name)
            if column is None:
                continue
            if field.mask_of is not None:
                column = [[1] * len(row) for row in column]
            batch[field.name] = torch.from_numpy(_as_array(column, field))
        return batch


def _as_array(column: Sequence[Any], field: Field) -> np.ndarray:
    if field.decode is not None:
        return field.decode(column)
    return _pad(column, field) if field.padded else _stack(column, field)


def _pad(rows: Sequence[Sequence[int]], field: Field) -> np.ndarray:
    padded = np.full((len(rows), max(map(len, rows))), field.fill, dtype=field.dtype)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return padded


def _stack(rows: Sequence[Any], field: Field) -> np.ndarray:
    return np.stack([np.asarray(row, dtype=field.dtype) for row in rows])
