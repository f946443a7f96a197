"""The word table while it is trained: only those of its rows that occur in the training texts.

Most of a small student is its word table (12 of 17 million parameters for three layers of MiniLM),
and of a large vocabulary most rows never occur. They get no gradient, so what clipping and AdamW
read and write of them changes nothing but their weight decay; yet it takes half of a CPU's step.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

# With so large a share of the rows in use there is little to leave out.
MAX_ACTIVE_SHARE = 0.8


class ActiveRowsEmbedding(nn.Embedding):
    """A word table of which some rows are trained and the others stay as they are.

    In training it reads nothing but the trained rows; evaluated, and saved, it is the whole table.
    A row that does not occur would get no gradient in any case. The one difference from training
    the table whole: such a row is not shrunk by weight decay either (by a factor of 0.9994 over a
    thousand steps at a mean rate of 6e-5 and a decay of 0.01).

    Args:
        whole: the table, ``(V, D)``; its memory is shared.
        rows: ids that occur, ``(R,)``, sorted.
    """

    def __init__(self, whole: nn.Embedding, rows: Tensor):
        place = torch.full((whole.num_embeddings,), -1, device=rows.device)
        place[rows] = torch.arange(len(rows), device=rows.device)
        # The model's padding need not be the tokenizer's, and then it may not occur.
        padding = -1 if whole.padding_idx is None else int(place[whole.padding_idx])
        super().__init__(
            len(rows),
            whole.embedding_dim,
            None if padding < 0 else padding,
            _weight=whole.weight.detach()[rows].clone(),
        )
        # No buffers: several processes would send each other all of them before every step.
        self.whole, self.rows, self.place = whole.weight.detach(), rows, place
        self.train(whole.training)

    def forward(self, ids: Tensor) -> Tensor:
        """Ids of any shape -> vectors ``(..., D)``."""
        if self.training:
            return F.embedding(self.place[ids], self.weight, self.padding_idx)
        return F.embedding(ids, self.whole)

    def train(self, mode: bool = True) -> "ActiveRowsEmbedding":
        """Leaving training, bring the whole table up to date."""
        if self.training and not mode:
            self.write_back()
        return super().train(mode)

    @torch.no_grad()
    def write_back(self) -> None:
        """Put the trained rows where they belong."""
        self.whole[self.rows] = self.weight

    def _apply(
        self, function: Callable[[Tensor], Tensor], recurse: bool = True
    ) -> "ActiveRowsEmbedding":
        self.whole, self.rows, self.place = map(function, (self.whole, self.rows, self.place))
        return super()._apply(function, recurse)

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        self.write_back()
        destination[f"{prefix}weight"] = self.whole

    def _load_from_state_dict(self, state: dict, prefix: str, *arguments) -> None:
        with torch.no_grad():
            self.whole.copy_(state[f"{prefix}weight"])
            self.weight.copy_(self.whole[self.rows])


@contextmanager
def train_active_rows(model: nn.Module, ids: np.ndarray | None) -> Iterator[None]:
    """For a training: the model's word table is trained in those rows only that occur.

    Left alone is a table that also serves as an output layer (every row has a gradient then), one
    of another kind, one that is not trained, and one that is nearly used up.

    Args:
        model: with its word table; whole again afterwards.
        ids: that occur in the training examples, padding included; ``None``: not known.
    """
    if ids is None:  # all rows, or a model without input embeddings
        yield
        return
    table = model.get_input_embeddings()
    plain = type(table) is nn.Embedding and table.max_norm is None and not table.sparse
    used = [p for module in model.modules() for p in module._parameters.values()]
    tied = sum(parameter is getattr(table, "weight", None) for parameter in used) > 1
    if (
        ids is None or not plain or tied or not table.weight.requires_grad
        or len(ids) > MAX_ACTIVE_SHARE * table.num_embeddings
    ):  # fmt: skip
        yield
        return
    rows = torch.from_numpy(ids).to(table.weight.device)
    part = ActiveRowsEmbedding(table, rows)
    model.set_input_embeddings(part)
    try:
        yield
    finally:
        part.write_back()
        with torch.no_grad():
            table.weight.copy_(part.whole)  # the same memory, unless it was moved to a GPU
        model.set_input_embeddings(table)
