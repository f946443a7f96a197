"""Batches of examples of similar length, shared by the processes of a training."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, count, islice

import numpy as np
from torch.utils.data import Sampler

from distill.distributed.environment import SINGLE_PROCESS, ProcessRank

# Shuffled examples are sorted by length within pools of this many batches: enough for batches of
# nearly equal length, few enough that the examples of a batch differ from epoch to epoch.
BATCHES_PER_POOL = 50


class BatchIndices(list[int]):
    """Indices of a whole batch, the same in every process.

    Args:
        indices: indices of the examples of the batch.
        process: rank whose part is :attr:`rank_part`.
        pass_seed: seed of the training and number of the pass over the data, for transforms that
            differ from pass to pass; ``None`` in an evaluation.
    """

    def __init__(
        self,
        indices: Iterable[int],
        process: ProcessRank = SINGLE_PROCESS,
        pass_seed: tuple[int, int] | None = None,
    ):
        super().__init__(indices)
        self.process, self.pass_seed = process, pass_seed

    @property
    def rank_part(self) -> list[int]:
        """The rank's part of the batch; it may be empty if the batch is small."""
        return self[self.process.rank :: self.process.world_size]


class LengthGroupedBatchSampler(Sampler[BatchIndices]):
    """Batches of examples of similar length.

    If shuffled, the order depends on seed and epoch alone. Every example is in one batch of an
    epoch, unless ``batches`` is given: an epoch then has that many batches of an infinite series of
    passes over the data, each of which is shuffled anew.

    Args:
        lengths: number of tokens of each example, ``(N,)``.
        batch_size: examples per batch, over all processes; the last batch of a pass may be smaller.
        seed: seed of the shuffling; ``None``: not shuffled, the longest examples first.
        batches: number of batches of an epoch; ``None``: one pass over the data.
        process: rank whose part of each batch is read.
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        batch_size: int,
        seed: int | None,
        batches: int | None = None,
        process: ProcessRank = SINGLE_PROCESS,
    ):
        self.lengths = np.asarray(lengths)
        self.batch_size, self.seed, self.epoch = batch_size, seed, 0
        self.batches, self.process = batches, process

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch whose batches are next; Lightning calls it, also after resuming."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._batches_per_pass if self.batches is None else self.batches

    @property
    def _batches_per_pass(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[BatchIndices]:
        if self.seed is None:
            order = np.argsort(-self.lengths, kind="stable")
            yield from self._slice(order, range(self._batches_per_pass), None)
            return
        # Computed from the epoch alone, so that an interrupted training resumes exactly.
        first, skipped = divmod(self.epoch * len(self), self._batches_per_pass)
        series = chain.from_iterable(self._shuffled(self.seed, number) for number in count(first))
        yield from islice(series, skipped, skipped + len(self))

    def _shuffled(self, seed: int, number: int) -> Iterator[BatchIndices]:
        """Yield the batches of one pass over all examples."""
        random = np.random.default_rng([seed, number])
        order = random.permutation(len(self.lengths))
        pool = BATCHES_PER_POOL * self.batch_size
        for start in range(0, len(order), pool):
            order[start : start + pool] = _sort_by_length(self.lengths, order[start : start + pool])
        yield from self._slice(order, random.permutation(self._batches_per_pass), (seed, number))

    def _slice(
        self, order: np.ndarray, numbers: Iterable[int], pass_seed: tuple[int, int] | None
    ) -> Iterator[BatchIndices]:
        """Yield batches by their numbers, one at a time to save memory."""
        for number in numbers:
            indices = order[number * self.batch_size : (number + 1) * self.batch_size]
            yield BatchIndices(indices.tolist(), self.process, pass_seed)


def _sort_by_length(lengths: np.ndarray, indices: np.ndarray) -> np.ndarray:
    return indices[np.argsort(lengths[indices], kind="stable")]
