"""A clock for training loops of any tool."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook


class Clock:
    """Times an epoch from the request for its first batch to the end of its last optimizer step.

    Work before and after the loop (set-up, validation, checkpoints) is not counted for any tool.
    Steps are counted by a hook on all optimizers.

    Args:
        steps: Number of optimizer steps of the epoch.
        device: Synchronized at both ends.

    Attributes:
        wall: Wall time in seconds.
        processor: Processor time of all threads of the process in seconds.
    """

    def __init__(self, steps: int, device: torch.device):
        self.steps, self.device, self.done = steps, device, 0
        self.wall = self.processor = float("nan")

    def timed(self, loader) -> "Timed":
        """Return the loader; the clock starts when its first batch is requested."""
        return Timed(loader, self)

    def start(self) -> None:
        """Start at the request for the first batch."""
        self.done = 0
        self._started = self._now()

    def _now(self) -> tuple[float, float]:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter(), time.process_time()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count optimizer steps inside the context.

        Raises:
            AssertionError: If their number is not ``steps``.
        """

        def after(*_) -> None:
            self.done += 1
            if self.done == self.steps:
                wall, processor = self._now()
                self.wall = wall - self._started[0]
                self.processor = processor - self._started[1]

        handle = register_optimizer_step_post_hook(after)
        try:
            yield
        finally:
            handle.remove()
        assert self.done == self.steps, f"{self.done} optimizer steps in place of {self.steps}"


class Timed:
    """A loader that starts a clock; all other attributes are those of the loader."""

    def __init__(self, loader, clock: Clock):
        self.loader, self.clock = loader, clock

    def __iter__(self) -> Iterator:
        self.clock.start()
        yield from self.loader

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str):
        if name in ("loader", "clock"):  # while it is being copied
            raise AttributeError(name)
        return getattr(self.loader, name)
