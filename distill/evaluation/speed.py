"""How fast models answer, measured side by side so that a busy machine is unfair to none."""

import time
import weakref
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from distill.data.dataset import DistillationDataset
from distill.modeling.loading import call_model
from distill.modeling.size import count_bytes

# Examples whose latency is taken, how often each, and how many a throughput batch holds.
EXAMPLES, ROUNDS, BATCH = 50, 5, 32


class Latency(NamedTuple):
    """Milliseconds for one example over the examples: the median and the 95th percentile."""

    p50: float
    p95: float

    @classmethod
    def of(cls, seconds: np.ndarray) -> "Latency":
        """From each example's seconds, ``(N,)``."""
        p50, p95 = np.percentile(seconds, [50, 95]) * 1e3
        return cls(float(p50), float(p95))


@dataclass(frozen=True)
class Speed:
    """How fast one model is.

    Attributes:
        fastest: each example by the fastest of its rounds, wall time, one thread.
        median: each example by the median of its rounds: what a machine as busy as this one gives.
        cpu: processor time of the thread by its least round: what other programs cannot take away
            (``None`` where the work is not the processor's).
        examples_per_second: in batches of ``BATCH`` with all threads.
        threads: of the throughput figure; latency always has one.
        peak_memory_bytes: weights and the largest sum of tensors alive at once in a forward pass
            of the longest example (of all memory, on a GPU).
    """

    fastest: Latency
    median: Latency
    cpu: Latency | None
    examples_per_second: float
    threads: int
    peak_memory_bytes: int


def measure_speed(
    models: Mapping[str, nn.Module],
    examples: Mapping[str, DistillationDataset],
    device: torch.device,
    rounds: int = ROUNDS,
) -> dict[str, Speed]:
    """Latency and throughput of several models, in fp32, at the data's own lengths.

    Latency: batch 1, one thread, ``EXAMPLES`` examples spread evenly over the lengths that occur.
    Models take turns example by example, so that whatever else the machine does falls on all of
    them, and the headline counts each example with the fastest of its rounds: other programs only
    ever add time. Throughput: batches of like length, the median of the rounds.

    Args:
        models: by role.
        examples: the evaluated split by role, encoded by each one's tokenizer.
        device: where to run.
        rounds: repetitions.
    """
    for model in models.values():
        model.to(device).eval()
    threads = torch.get_num_threads()
    singles = {
        role: _batches_across_lengths(examples[role], EXAMPLES, 1, device) for role in models
    }
    batches = {role: _batches_across_lengths(examples[role], 4, BATCH, device) for role in models}
    shape = (rounds, len(next(iter(singles.values()))))
    wall = {role: np.empty(shape) for role in models}
    cpu = {role: np.empty(shape) for role in models}
    rates: dict[str, list[float]] = {role: [] for role in models}
    with torch.inference_mode():
        with _one_thread():
            for turn in range(-1, rounds):  # the first round warms up
                for index in range(shape[1]):
                    for role, model in models.items():
                        seconds = _time_forward(model, singles[role][index], device)
                        if turn >= 0:
                            wall[role][turn, index], cpu[role][turn, index] = seconds
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
            fastest=Latency.of(wall[role].min(axis=0)),
            median=Latency.of(np.median(wall[role], axis=0)),
            cpu=Latency.of(cpu[role].min(axis=0)) if device.type == "cpu" else None,
            examples_per_second=float(np.median(rates[role])),
            threads=threads,
            peak_memory_bytes=memory[role],
        )
        for role in models
    }


def _batches_across_lengths(
    examples: DistillationDataset, count: int, batch_size: int, device: torch.device
) -> list[dict[str, Tensor]]:
    """Batches spread evenly over the lengths, the longest last."""
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
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _time_forward(
    model: nn.Module, inputs: Mapping[str, Tensor], device: torch.device
) -> tuple[float, float]:
    """Wall and processor seconds of one forward pass."""
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
    """Counts the bytes of the tensors that operations make and that are still alive."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self.seen: set[int] = set()

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        given = {
            leaf.untyped_storage()._cdata
            for leaf in tree_leaves((arguments, keywords))
            if isinstance(leaf, Tensor)
        }
        result = function(*arguments, **(keywords or {}))
        for tensor in tree_leaves(result):
            if not isinstance(tensor, Tensor):
                continue
            storage = tensor.untyped_storage()
            if storage._cdata in given or storage._cdata in self.seen:
                continue
            self.seen.add(storage._cdata)
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._release, storage._cdata, storage.nbytes())
        return result

    def _release(self, key: int, size: int) -> None:
        self.seen.discard(key)
        self.now -= size
