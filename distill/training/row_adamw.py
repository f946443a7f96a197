"""AdamW whose embedding tables are updated row by row, when a row is next read."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from distill.modeling.row_embedding import RowEmbedding

# A row's momentum is followed until its moves are smaller than this share of the first.
NEGLIGIBLE = 1e-12


class RowAdamW(torch.optim.AdamW):
    """AdamW (Loshchilov and Hutter 2019) with deferred updates of the rows of embedding tables.

    A row without a gradient still moves by AdamW, by its decaying momentum. These moves need
    nothing but the row's moments and the learning rates since, and add up to a factor: they are
    made at once when the row is next read, so that a step costs what the batch's rows cost. The
    result is that of AdamW on dense gradients up to rounding, but that epsilon is taken as if it
    shrank with the root of the second moment while a row waits.

    Unlike :class:`torch.optim.SparseAdam`, which never makes the moves in between: a rare word then
    moves a tenth as far for each gradient.

    Args:
        groups: parameters, as for :class:`torch.optim.AdamW`.
        tables: embedding tables whose weights are among them and have sparse gradients.
        **settings: as for :class:`torch.optim.AdamW`.
    """

    def __init__(self, groups: list[dict[str, Any]], tables: list[RowEmbedding], **settings: Any):
        super().__init__(groups, **settings)
        self._tables = [_RowUpdates(self, table) for table in tables]
        for table, updates in zip(tables, self._tables, strict=True):
            table.before_read = updates.catch_up
            table.before_read_all = updates.catch_up_all

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Make a step: rows with a gradient move, the others keep theirs for later."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        gradients = []
        for updates in self._tables:
            gradients.append(updates.weight.grad)
            updates.weight.grad = None  # AdamW's own step then passes over it
        super().step()
        for updates, gradient in zip(self._tables, gradients, strict=True):
            updates.step(gradient)
            updates.weight.grad = gradient
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return the state with every row up to date."""
        for updates in self._tables:
            updates.catch_up_all()
        return super().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state."""
        super().load_state_dict(state_dict)
        for updates in self._tables:
            updates.restore()


class _RowUpdates:
    """Moments of one table, and which of its rows are how far behind.

    With steps ``j`` of rate ``l_j`` and ``w_j = l_j sqrt(1 - b2^j) / (1 - b1^j)``, a row that had
    its last gradient at step ``a`` moves until step ``b`` by
    ``-m_a / sqrt(v_a) * sum_{j=a+1}^b w_j r^(j-a)``, ``r = b1 / sqrt(b2)``, beside its decay.
    """

    def __init__(self, optimizer: RowAdamW, table: RowEmbedding):
        self.optimizer, self.weight, self.active = optimizer, table.weight, table.active
        self._group_index = next(
            index
            for index, group in enumerate(optimizer.param_groups)
            if any(parameter is self.weight for parameter in group["params"])
        )
        first, second = self.group["betas"]
        ratio = first / second**0.5 if second else 1.0
        assert ratio < 1, "check rows_can_wait first"
        length = 1 if first == 0 else int(np.log(NEGLIGIBLE) / np.log(ratio)) + 1
        self.powers = ratio ** np.arange(length, 0, -1)
        # Step at which each row was last brought up to date.
        self.last = torch.zeros(len(self.weight), dtype=torch.long)
        self.steps = 0
        self._forget()

    @property
    def group(self) -> dict[str, Any]:
        """Settings of the table; a restored optimizer has new ones."""
        group: dict[str, Any] = self.optimizer.param_groups[self._group_index]
        return group

    def _forget(self) -> None:
        """Begin the history anew: all rows are up to date."""
        self.base = self.steps
        # Of each step since the base: the sum above from there to now, and the decay until it.
        self.sums, self.decays = np.zeros(1024), np.ones(1024)

    @property
    def _state(self) -> dict[str, Tensor]:
        state = self.optimizer.state[self.weight]
        if not state:
            state["step"] = torch.tensor(0.0)
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = torch.zeros_like(self.weight)
        return state

    @torch.no_grad()
    def catch_up(self, rows: Tensor) -> None:
        """Make the moves of these rows that are due.

        Args:
            rows: ids without duplicates, ``(R,)``.
        """
        last = self.last[rows]
        behind = last < self.steps
        rows, last = rows[behind], last[behind]
        if not len(rows):
            return
        state, (first, second) = self._state, self.group["betas"]
        dtype = self.weight.dtype
        places, now = (last - self.base).numpy(), self.steps - self.base
        waited = (self.steps - last).double()
        keep = self.decays[now] / self.decays[places]
        move = self.sums[places] * self.decays[now]
        epsilon = self.group["eps"] * (1 - second**self.steps) ** 0.5
        mean, square = state["exp_avg"][rows], state["exp_avg_sq"][rows]
        moved = self.weight[rows] * _column(keep, dtype)
        moved.addcdiv_(mean * _column(-move, dtype), square.sqrt().add_(epsilon))
        self.weight[rows] = moved
        state["exp_avg"][rows] = mean.mul_(_column(first**waited, dtype))
        state["exp_avg_sq"][rows] = square.mul_(_column(second**waited, dtype))
        self.last[rows] = self.steps

    def catch_up_all(self) -> None:
        """Make all moves that are due."""
        if self.steps > self.base:
            self.catch_up(torch.arange(len(self.last)) if self.active is None else self.active)
            self.last.fill_(self.steps)
            self._forget()

    def step(self, gradient: Tensor | None) -> None:
        """Move the rows of a gradient.

        Args:
            gradient: sparse, of the table's shape.
        """
        rows = None
        if gradient is not None:
            gradient = gradient.coalesce()
            rows = gradient.indices()[0]
            self.catch_up(rows)  # all but those that were read and had no gradient until now
        self.steps += 1
        rate, decay = self.group["lr"], self.group["weight_decay"]
        (first, second), state = self.group["betas"], self._state
        state["step"].fill_(self.steps)
        self._extend(rate, decay)
        if gradient is None or rows is None:
            return
        values = gradient.values()
        mean = state["exp_avg"][rows].lerp_(values, 1 - first)
        square = state["exp_avg_sq"][rows].mul_(second).addcmul_(values, values, value=1 - second)
        root = square.sqrt().div_((1 - second**self.steps) ** 0.5).add_(self.group["eps"])
        moved = self.weight[rows].mul_(1 - rate * decay)
        self.weight[rows] = moved.addcdiv_(mean, root, value=-rate / (1 - first**self.steps))
        state["exp_avg"][rows], state["exp_avg_sq"][rows] = mean, square
        self.last[rows] = self.steps

    def _extend(self, rate: float, decay: float) -> None:
        """Add a step to the history."""
        first, second = self.group["betas"]
        now = self.steps - self.base
        if now == len(self.sums):
            self.sums, self.decays = (
                np.concatenate([part, np.zeros(now)]) for part in (self.sums, self.decays)
            )
        self.decays[now] = self.decays[now - 1] * (1 - rate * decay)
        weight = rate * (1 - second**self.steps) ** 0.5 / (1 - first**self.steps)
        count = min(now, len(self.powers))
        self.sums[now - count : now] += weight / self.decays[now] * self.powers[-count:]
        self.sums[now] = 0.0

    def restore(self) -> None:
        """Read the number of steps from a restored state, in which every row is up to date."""
        self.steps = int(self._state["step"])
        self.last.fill_(self.steps)
        self._forget()


def rows_can_wait(betas: tuple[float, float]) -> bool:
    """Return whether the moves of a waiting row shrink, as the deferred update needs."""
    first, second = betas
    return first < 0.999 * second**0.5


def _column(values: Any, dtype: torch.dtype) -> Tensor:
    return torch.as_tensor(values, dtype=dtype)[:, None]
