"""Collective operations over the processes that run a function together."""

from typing import Any, TypeVar

import torch
from torch import distributed

T = TypeVar("T")


def all_gather_object(value: T, world_size: int) -> list[T]:
    """Return the values of all processes in the order of their ranks."""
    if world_size == 1:
        return [value]
    values: list[Any] = [None] * world_size
    distributed.all_gather_object(values, value)
    return values


def all_reduce_mean(value: torch.Tensor, world_size: int) -> torch.Tensor:
    """Return the mean of a tensor over all processes; no gradient flows through it."""
    value = value.detach().clone()
    distributed.all_reduce(value)
    return value / world_size
