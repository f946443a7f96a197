"""The tools that ``against_others.py`` compares, one file each.

To add a tool, add a file with ``prepare(work) -> Contestant`` and a line in ``CONTESTANTS``.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Protocol

from torch import Tensor, nn

from contestants.clock import Clock
from contestants.work import Work


class Contestant(Protocol):
    """A tool with an untrained student.

    Attributes:
        student: The model that it trains.
        counts_entropy: Whether its soft loss is a cross-entropy instead of a KL divergence.
    """

    student: nn.Module
    counts_entropy: bool

    def loss(self, rows: list[int]) -> Tensor:
        """Compute the training loss of some rows of ``work.rows`` in the tool's own way."""

    def train(self, clock: Clock) -> None:
        """Train for one epoch in the tool's own loop, with its loader in ``clock.timed``."""


# Option value -> name in tables, and module and function that create it.
CONTESTANTS = {
    "textbrewer": ("TextBrewer", "textbrewer:prepare"),
    "torchdistill": ("torchdistill", "torchdistill:prepare"),
    "trainer": ("Hugging Face Trainer", "hf_trainer:prepare"),
    "live": ("distill, live teacher", "distill_training:live"),
    "live_fp32": ("distill, live teacher, fp32", "distill_training:live_fp32"),
    "cached": ("distill", "distill_training:cached"),
    "fine_tuning": ("distill, plain fine-tuning", "distill_training:fine_tuning"),
}
OTHERS = ("textbrewer", "torchdistill", "trainer")


def title(name: str) -> str:
    """Return the name of a tool in tables."""
    return CONTESTANTS[name][0]


def maker(name: str) -> Callable[[Work], Contestant]:
    """Return the function that creates a contestant; imports the tool on first use."""
    module, function = CONTESTANTS[name][1].split(":")
    return getattr(import_module(f"contestants.{module}"), function)
