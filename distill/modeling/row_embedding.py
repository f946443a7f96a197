"""Embedding tables whose gradient names the rows of the batch, instead of being as large as they.

A batch touches some hundred rows of a table of tens of thousands. With a gradient of the whole,
zeroing, clipping and AdamW take most of a small student's step.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

MIN_ROWS = 4096
"""Smaller tables are trained whole: there is nothing to gain."""


class RowEmbedding(nn.Embedding):
    """An embedding table with a sparse gradient, for an optimizer that updates rows late.

    The parameter is that of the table it stands for. Before rows are read in training,
    ``before_read`` is called with their sorted ids ``(R,)``, so that updates which are due can be
    made; before the whole table is read, in evaluation or to be saved, ``before_read_all``.

    Args:
        whole: the table, ``(V, D)``; its weight is shared.
        active: ids of the rows that occur, ``(R,)``; the others are left as they are. ``None``:
            any row may occur.
    """

    def __init__(self, whole: nn.Embedding, active: Tensor | None = None):
        super().__init__(
            whole.num_embeddings, whole.embedding_dim, whole.padding_idx, _weight=whole.weight
        )
        self.weight, self.active = whole.weight, active
        self.before_read: Callable[[Tensor], None] | None = None
        self.before_read_all: Callable[[], None] | None = None
        self.training = whole.training

    def forward(self, ids: Tensor) -> Tensor:
        """Return the embeddings ``(..., D)`` of ids of any shape."""
        if not self.training:
            return F.embedding(ids, self.weight)
        rows, places = ids.unique(return_inverse=True)
        if self.before_read is not None:
            self.before_read(rows)
        embedded: Tensor = _RowLookup.apply(self.weight, ids, rows, places, self.padding_idx)
        return embedded

    def train(self, mode: bool = True) -> "RowEmbedding":
        """Set the mode; when training ends, bring all rows up to date."""
        if self.training and not mode and self.before_read_all is not None:
            self.before_read_all()
        super().train(mode)
        return self

    def _save_to_state_dict(self, *arguments: Any) -> None:
        if self.before_read_all is not None:
            self.before_read_all()
        super()._save_to_state_dict(*arguments)


class _RowLookup(torch.autograd.Function):
    """``F.embedding`` with a sparse gradient that has each row once, in order."""

    @staticmethod
    def forward(
        context: Any, weight: Tensor, ids: Tensor, rows: Tensor, places: Tensor, padding: int | None
    ) -> Tensor:
        context.save_for_backward(rows, places)
        context.shape, context.padding = weight.shape, padding
        return F.embedding(ids, weight)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        rows, places = context.saved_tensors
        gradient = gradients[0].reshape(-1, context.shape[1])
        values = gradient.new_zeros(len(rows), context.shape[1])
        values.index_add_(0, places.flatten(), gradient)
        if context.padding is not None:
            values.masked_fill_((rows == context.padding)[:, None], 0.0)
        sparse = torch.sparse_coo_tensor(
            rows[None], values, context.shape, is_coalesced=True, check_invariants=False
        )
        return sparse, None, None, None, None


@contextmanager
def sparse_row_gradients(model: nn.Module, ids: np.ndarray | None = None) -> Iterator[None]:
    """Give a model's large embedding tables sparse gradients within the context.

    A table stays as it is if it is small, frozen, not a plain ``nn.Embedding``, or if its weight is
    used elsewhere too, such as in an output layer.

    Args:
        model: changed in place, and restored afterwards.
        ids: ids of the input embeddings that occur in the training data, including padding;
            ``None``: unknown.
    """
    embedded: Any = model
    inputs = embedded.get_input_embeddings() if ids is not None else None
    active = None if ids is None else torch.from_numpy(ids)
    weights = [p for module in model.modules() for p in module._parameters.values()]
    replaced = []
    for parent in list(model.modules()):
        for name, table in list(parent.named_children()):
            if (
                type(table) is nn.Embedding and table.num_embeddings >= MIN_ROWS
                and table.weight.requires_grad and table.max_norm is None
                and not table.sparse and not table.scale_grad_by_freq
                and sum(weight is table.weight for weight in weights) == 1
            ):  # fmt: skip
                setattr(parent, name, RowEmbedding(table, active if table is inputs else None))
                replaced.append((parent, name, table))
    try:
        yield
    finally:
        for parent, name, table in replaced:
            rows = getattr(parent, name)
            if rows.before_read_all is not None:
                rows.before_read_all()
            table.training = rows.training
            setattr(parent, name, table)
