"""Latency and throughput, measured in turn so that other load affects all models alike."""

import gc
import itertools
import math
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from distill.data.dataset import DistillationDataset
from distill.modeling.loading import call_model
from distill.modeling.size import count_bytes
from distill.reporting.schema import Latency, Speed

EXAMPLES = 50  # number of examples for latency
BATCH_SIZE, BATCHES = 32, 4  # size and number of batches for throughput
ROUNDS = 5  # minimum number of turns of each model
TOLERANCE = 0.01  # times are settled if a turn lowers their sum by less than this fraction ...
SETTLED_TURNS = 2  # ... so many turns in succession
ALIKE = 1.1  # models whose times differ by less than this factor take equally many turns
PATIENCE = 4  # times that do not settle end after this multiple of the minimum number of turns
WARM_UP_SECONDS = 0.005  # untimed work before a model's turn
TURN_SECONDS = 0.02  # minimum length of a model's turn
WALL, CPU = 0, 1  # indices of the two kinds of seconds


def measure_speed(
    models: Mapping[str, nn.Module],
    examples: Mapping[str, DistillationDataset],
    device: torch.device,
    rounds: int = ROUNDS,
) -> dict[str, Speed]:
    """Measure latency and throughput of several models in fp32, at the lengths of the data.

    Latency: batch size 1, one thread, ``EXAMPLES`` examples spread evenly over the lengths that
    occur. Throughput: batches of similar length with all threads. Models take turns, see
    :func:`_time_in_turns`, and each input counts with its fastest pass, because other programs can
    only add time. The median of the passes, which describes a machine with this load, and the
    processor time of the thread (``None`` on a GPU) are reported as well. Peak memory: weights and
    the largest sum of tensors alive at the same time in a forward pass of the longest example (on a
    GPU all memory).

    Args:
        models: the models by role.
        examples: the evaluated split by role, encoded for each model.
        device: device to run on.
        rounds: minimum number of turns of each model.
    """
    for model in models.values():
        model.to(device).eval()
    threads = torch.get_num_threads()
    singles = {
        role: _batches_across_lengths(examples[role], EXAMPLES, 1, device) for role in models
    }
    batches = {
        role: _batches_across_lengths(examples[role], BATCHES, BATCH_SIZE, device)
        for role in models
    }
    with torch.inference_mode(), _no_garbage_collection():
        with one_thread():
            latencies = _time_in_turns(models, singles, device, rounds)
        throughputs = _time_in_turns(models, batches, device, rounds)
        memory = {
            role: _peak_memory(model, singles[role][-1], device) for role, model in models.items()
        }
    return {
        role: Speed(
            latency_ms=latency(latencies[role].fastest[WALL]),
            latency_ms_median_round=latency(latencies[role].median[WALL]),
            cpu_ms=latency(latencies[role].fastest[CPU]) if device.type == "cpu" else None,
            examples_per_second=_count_examples(batches[role])
            / float(throughputs[role].fastest[WALL].sum()),
            batch_size=BATCH_SIZE,
            threads=threads,
            runtime=f"torch {device.type} fp32",
            peak_memory_bytes=memory[role],
        )
        for role in models
    }


class _Clock:
    """Times of one model.

    Args:
        model: the model.
        inputs: what it is timed on, N of them.
        device: device of both.
    """

    def __init__(
        self, model: nn.Module, inputs: Sequence[Mapping[str, Tensor]], device: torch.device
    ) -> None:
        self._model, self._inputs, self._device = model, inputs, device
        self._passes: list[list[tuple[float, float]]] = []
        self._sums = [math.inf]  # seconds of a pass after each turn

    def take_turn(self) -> None:
        """Warm up, then pass over all inputs once or more often."""
        end = time.perf_counter() + WARM_UP_SECONDS
        for batch in itertools.cycle(self._inputs):
            _time_forward(self._model, batch, self._device)
            if time.perf_counter() > end:
                break
        end = time.perf_counter() + TURN_SECONDS
        while True:
            self._passes.append(
                [_time_forward(self._model, batch, self._device) for batch in self._inputs]
            )
            if time.perf_counter() >= end:
                break
        self._sums.append(self.seconds)

    @property
    def seconds(self) -> float:
        """Least seconds of a pass: of the processor, or of the wall clock where a GPU works.

        Wall time does not settle on a busy machine, where every long pass is interrupted.
        """
        return float(self.fastest[WALL if self._device.type == "cuda" else CPU].sum())

    @property
    def is_settled(self) -> bool:
        """Whether the last turns did not lower the times any more."""
        before, *_, last = self._sums[-SETTLED_TURNS - 1 :]
        return last > (1 - TOLERANCE) * before

    @property
    def fastest(self) -> np.ndarray:
        """Least wall and processor seconds of each input, ``(2, N)``."""
        return np.min(self._passes, axis=0).T

    @property
    def median(self) -> np.ndarray:
        """Median wall and processor seconds of each input, ``(2, N)``."""
        return np.median(self._passes, axis=0).T


def _time_in_turns(
    models: Mapping[str, nn.Module],
    inputs: Mapping[str, Sequence[Mapping[str, Tensor]]],
    device: torch.device,
    rounds: int,
) -> dict[str, _Clock]:
    """Time each model on its inputs, so that neither order nor other load favors any of them.

    A model that runs right after a large one finds its weights and code evicted from the caches and
    the processor at the clock frequency of the other's instructions. So a model has the processor
    for a whole turn: it runs untimed for ``WARM_UP_SECONDS`` and then passes over all of its inputs
    until ``TURN_SECONDS`` are over. Turns alternate in rounds, each of which begins with another
    model, so that changes of the machine's load affect all models. After ``rounds`` of them, models
    go on until their times have settled, and with each of them those that take as long or less.

    Args:
        models: the models by role.
        inputs: inputs of each model by role.
        device: device to run on.
        rounds: minimum number of turns of each model.
    """
    clocks = {role: _Clock(models[role], inputs[role], device) for role in models}
    for number in range(PATIENCE * rounds):
        taking_part = list(clocks.values())
        if number >= rounds:
            unsettled = [clock.seconds for clock in taking_part if not clock.is_settled]
            limit = ALIKE * max(unsettled, default=0.0)
            taking_part = [clock for clock in taking_part if clock.seconds <= limit]
        for index in range(len(taking_part)):
            taking_part[(index + number) % len(taking_part)].take_turn()
    return clocks


def _count_examples(batches: Sequence[Mapping[str, Tensor]]) -> int:
    return sum(len(next(iter(batch.values()))) for batch in batches)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Collect garbage before the context instead of at random moments within it."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def latency(seconds: np.ndarray) -> Latency:
    """Return median and 95th percentile of the seconds of each example, ``(N,)``."""
    p50, p95 = np.percentile(seconds, [50, 95]) * 1e3
    return Latency(float(p50), float(p95))


def _batches_across_lengths(
    examples: DistillationDataset, count: int, batch_size: int, device: torch.device
) -> list[dict[str, Tensor]]:
    """Return batches spread evenly over the lengths, the longest last."""
    order = np.argsort(examples.lengths, kind="stable")
    batch_size = min(batch_size, len(order))
    starts = np.linspace(0, len(order) - batch_size, min(count, len(order)), dtype=int)
    return [
        {
            key: value.to(device)
            for key, value in examples[order[start : start + batch_size].tolist()][
                "student"
            ].items()
        }
        for start in starts
    ]


@contextmanager
def one_thread() -> Iterator[None]:
    """Run on one thread within the context."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _time_forward(
    model: nn.Module, inputs: Mapping[str, Tensor], device: torch.device
) -> tuple[float, float]:
    """Return wall and processor seconds of one forward pass."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    wall, cpu = time.perf_counter(), time.thread_time()
    call_model(model, inputs)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - wall, time.thread_time() - cpu


def _peak_memory(model: nn.Module, inputs: Mapping[str, Tensor], device: torch.device) -> int:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        call_model(model, inputs)
        return torch.cuda.max_memory_allocated(device)
    with _LiveTensors() as live:
        call_model(model, inputs)
    return count_bytes(model) + live.peak


class _LiveTensors(TorchDispatchMode):
    """Counts the bytes of the tensors that operations create and that are still alive.

    Attributes:
        current: bytes of the tensors that are alive.
        peak: largest value of ``current`` so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.current = self.peak = 0
        self._storages: set[int] = set()

    def __torch_dispatch__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        arguments: tuple[Any, ...] = (),
        keywords: dict[str, Any] | None = None,
    ) -> Any:
        inputs = {
            leaf.untyped_storage()._cdata
            for leaf in tree_leaves((arguments, keywords))
            if isinstance(leaf, Tensor)
        }
        result = function(*arguments, **(keywords or {}))
        for tensor in tree_leaves(result):
            if not isinstance(tensor, Tensor):
                continue
            storage = tensor.untyped_storage()
            if storage._cdata in inputs or storage._cdata in self._storages:
                continue
            self._storages.add(storage._cdata)
            self.current += storage.nbytes()
            self.peak = max(self.peak, self.current)
            weakref.finalize(storage, self._release, storage._cdata, storage.nbytes())
        return result

    def _release(self, key: int, size: int) -> None:
        self._storages.discard(key)
        self.current -= size
