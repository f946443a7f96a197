"""The same stop-watch for every loop, whatever it is built of."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook


class Clock:
    """Times a pass from the request for its first batch to the end of its last optimizer step.

    So what a tool does before and after its loop (setting up, validation, checkpoints) is counted
    for none. Steps are seen by a hook on every optimizer there is.

    Args:
        steps: of the pass.
        device: waited for at both ends.

    Attributes:
        wall: seconds.
        processor: seconds of all threads of the process.
    """

    def __init__(self, steps: int, device: torch.device):
        self.steps, self.device, self.done = steps, device, 0
        self.wall = self.processor = float("nan")

    def timed(self, loader) -> "Timed":
        """The loader, starting the clock when it is first asked for a batch."""
        return Timed(loader, self)

    def start(self) -> None:
        """The first batch is asked for."""
        self.done = 0
        self._started = self._now()

    def _now(self) -> tuple[float, float]:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter(), time.process_time()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count optimizer steps; the number that was said is checked at the end."""

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
    """A loader that starts a clock. Whatever else is asked of it, the loader answers."""

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
