"""Everybody who takes part in ``against_others.py``, a file each.

A newcomer is a file with a ``prepare(work) -> Contestant`` and a line in ``CONTESTANTS``.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Protocol

from torch import Tensor, nn

from contestants.clock import Clock
from contestants.work import Work


class Contestant(Protocol):
    """One way to do the work, with a student that has not been trained yet.

    Attributes:
        student: what it trains.
    """

    student: nn.Module

    def loss(self, rows: list[int]) -> Tensor:
        """The loss it would train on for these rows of ``work.rows``, as it would compute it."""

    def train(self, clock: Clock) -> None:
        """One pass over all rows in its own loop, whose batches come through ``clock.timed``."""


# By short name: what tables call it, and where it is made.
CONTESTANTS = {
    "textbrewer": ("TextBrewer", "textbrewer:prepare"),
    "torchdistill": ("torchdistill", "torchdistill:prepare"),
    "trainer": ("Hugging Face Trainer", "hf_trainer:prepare"),
    "live": ("distill, live teacher", "ours:live"),
    "live_fp32": ("distill, live teacher, fp32", "ours:live_fp32"),
    "cached": ("distill", "ours:cached"),
    "fine_tuning": ("distill, plain fine-tuning", "ours:fine_tuning"),
}
OTHERS = ("textbrewer", "torchdistill", "trainer")


def title(name: str) -> str:
    """What tables call it."""
    return CONTESTANTS[name][0]


def maker(name: str) -> Callable[[Work], Contestant]:
    """Its ``prepare``; other tools are imported only where they take part."""
    module, function = CONTESTANTS[name][1].split(":")
    return getattr(import_module(f"contestants.{module}"), function)
