"""distill.distributed.collectives"""

from typing import Any

import torch
from torch import distributed

_rank_and_world_size = (0, 1)


def rank_and_world_size() -> tuple[int, int]:
    """Which part of each batch is this process's: its rank and the number of processes."""
    return _rank_and_world_size


def all_gather_object(value: Any) -> list[Any]:
    """The values of all processes that work together, in the order of their ranks."""
    if _rank_and_world_size[1] == 1:
        return [value]
    values = [None] * _rank_and_world_size[1]
    distributed.all_gather_object(values, value)
    return values


def all_reduce_mean(value: torch.Tensor) -> torch.Tensor:
    """The mean of a tensor over all processes that work together; no gradient goes through it."""
    value = value.detach().clone()
    distributed.all_reduce(value)
    return value / _rank_and_world_size[1]
