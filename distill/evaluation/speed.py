"""Latency and throughput, measured in turn so that other load affects all models alike."""

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
ROUNDS = 5  # number of repetitions
BATCH_SIZE = 32  # batch size for throughput


def measure_speed(
    models: Mapping[str, nn.Module],
    examples: Mapping[str, DistillationDataset],
    device: torch.device,
    rounds: int = ROUNDS,
) -> dict[str, Speed]:
    """Measure latency and throughput of several models in fp32, at the lengths of the data.

    Latency: batch size 1, one thread, ``EXAMPLES`` examples spread evenly over the lengths that
    occur. Models run in turn on each example, so that other load on the machine affects all of
    them, and each example counts with the fastest of its rounds, because other programs can only
    add time. The median of the rounds, which describes a machine with this load, and the processor
    time of the thread (``None`` on a GPU) are reported as well. Throughput: batches of similar
    length with all threads, the median of the rounds. Peak memory: weights and the largest sum of
    tensors alive at the same time in a forward pass of the longest example (on a GPU all memory).

    Args:
        models: the models by role.
        examples: the evaluated split by role, encoded for each model.
        device: device to run on.
        rounds: number of repetitions.
    """
    for model in models.values():
        model.to(device).eval()
    threads = torch.get_num_threads()
    singles = {
        role: _batches_across_lengths(examples[role], EXAMPLES, 1, device) for role in models
    }
    batches = {
        role: _batches_across_lengths(examples[role], 4, BATCH_SIZE, device) for role in models
    }
    shape = (rounds, len(next(iter(singles.values()))))
    wall = {role: np.empty(shape) for role in models}
    cpu = {role: np.empty(shape) for role in models}
    rates: dict[str, list[float]] = {role: [] for role in models}
    with torch.inference_mode():
        with _one_thread():
            for turn in range(-1, rounds):  # the first round warms up
                for index in range(shape[1]):
                    for role, model in models.items():
                        times = _time_forward(model, singles[role][index], device)
                        if turn >= 0:
                            wall[role][turn, index], cpu[role][turn, index] = times
        for turn in range(-1, rounds):
            for role, model in models.items():
                seconds = sum(_time_forward(model, batch, device)[0] for batch in batches[role])
                count = sum(len(next(iter(batch.values()))) for batch in batches[role])
                if turn >= 0:
                    rates[role].append(count / seconds)
        memory = {
            role: _peak_memory(model, singles[role][-1], device) for role, model in models.items()
        }
    return {
        role: Speed(
            latency_ms=latency(wall[role].min(axis=0)),
            latency_ms_median_round=latency(np.median(wall[role], axis=0)),
            cpu_ms=latency(cpu[role].min(axis=0)) if device.type == "cpu" else None,
            examples_per_second=float(np.median(rates[role])),
            batch_size=BATCH_SIZE,
            threads=threads,
            runtime=f"torch {device.type} fp32",
            peak_memory_bytes=memory[role],
        )
        for role in models
    }


def latency(seconds: np.ndarray) -> Latency:
    """Return median and 95th percentile in milliseconds of the seconds of each, ``(N,)``."""
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
def _one_thread() -> Iterator[None]:
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
