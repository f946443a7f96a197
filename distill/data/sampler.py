"""distill.data.sampler"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, count, islice

import numpy as np
from torch.utils.data import Sampler

# Shuffled examples are sorted by length within pools of so many batches: enough for batches of
# nearly equal length, few enough that what stands in one batch differs from epoch to epoch.
BATCHES_PER_POOL = 50


class BatchIndices(list[int]):
    """A batch's indices, and which pass draws them: the training's seed and the pass's number."""

    def __init__(self, indices: Sequence[int], draw: tuple[int, int]):
        super().__init__(indices)
        self.draw = draw


class LengthGroupedBatchSampler(Sampler[list[int]]):
    """Batches of examples of like length.

    Shuffled, the order depends on seed and epoch alone. Every example comes once an epoch, unless
    an epoch is given so many ``batches``: it is then that stretch of an endless series of passes,
    each of them shuffled anew.

    Args:
        lengths: tokens an example, ``(N,)``.
        batch_size: examples a batch; the last one of a pass may be smaller.
        seed: of the shuffling; ``None`` keeps one order, the longest first.
        batches: in an epoch; ``None``: one pass.
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        batch_size: int,
        seed: int | None,
        batches: int | None = None,
    ):
        self.lengths = np.asarray(lengths)
        self.batch_size, self.seed, self.epoch = batch_size, seed, 0
        self.batches = batches

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch, also after resuming."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._in_a_pass if self.batches is None else self.batches

    @property
    def _in_a_pass(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        if self.seed is None:
            order = np.argsort(-self.lengths, kind="stable")
            yield from self._cut(order, range(self._in_a_pass))
            return
        # Computed from the epoch alone: a training that was interrupted continues where it was.
        first, skipped = divmod(self.epoch * len(self), self._in_a_pass)
        series = chain.from_iterable(map(self._drawn, count(first)))
        yield from islice(series, skipped, skipped + len(self))

    def _drawn(self, number: int) -> Iterator[list[int]]:
        """One pass, for transforms of rows that differ from pass to pass."""
        for batch in self._shuffled(number):
            yield BatchIndices(batch, (self.seed, number))

    def _shuffled(self, number: int) -> Iterator[list[int]]:
        """One pass over all examples."""
        random = np.random.default_rng([self.seed, number])
        order = random.permutation(len(self.lengths))
        pool = BATCHES_PER_POOL * self.batch_size
        for start in range(0, len(order), pool):
            order[start : start + pool] = _sort_by_length(self.lengths, order[start : start + pool])
        yield from self._cut(order, random.permutation(self._in_a_pass))

    def _cut(self, order: np.ndarray, which: Iterable[int]) -> Iterator[list[int]]:
        """Batches by their number, made one at a time: a pass of them all at once is large."""
        for index in which:
            yield order[index * self.batch_size : (index + 1) * self.batch_size].tolist()


def _sort_by_length(lengths: np.ndarray, indices: np.ndarray) -> np.ndarray:
    return indices[np.argsort(lengths[indices], kind="stable")]
