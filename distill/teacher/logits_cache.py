"""The cache of a teacher's logits: computed once per teacher and data, then memory-mapped."""

import logging
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from distill.core.cache import cache_key, file_lock, get_or_create, remove
from distill.core.errors import RunError, UserError
from distill.core.hardware import Hardware
from distill.core.jagged import ArrayOrJagged, JaggedArray, allocate_rows
from distill.data.dataset import DistillationDataset
from distill.data.preprocessor import Preprocessor
from distill.distributed.collectives import all_gather_object
from distill.distributed.environment import ProcessRank
from distill.distributed.launcher import ProcessLauncher
from distill.teacher.prepare import Teacher
from distill.training.inference import iter_logits

log = logging.getLogger(__name__)

# Precision of the outputs, whatever a student is trained in; part of the key.
PRECISION = "32-true"
# Number of examples on which cached logits are compared with the teacher whenever they are opened.
VERIFIED_EXAMPLES = 8


class ConcatLogits:
    """Concatenated cached logits of several splits, of one teacher or of several.

    The files stay memory-mapped: only the requested rows are read.

    Args:
        splits: for each teacher the logits of each split, ``(N_i, C)`` or jagged.
        stacked: whether the result has an axis of teachers, for an ensemble.
    """

    def __init__(self, splits: Sequence[Sequence[ArrayOrJagged]], stacked: bool):
        self.splits, self.stacked = splits, stacked
        self.ends = np.cumsum([len(split) for split in splits[0]])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, indices: Sequence[int]) -> np.ndarray:
        """Return the logits of B examples: ``(B, C)`` or ``(U, C)``; ``(B, K, C)`` if stacked."""
        examples = np.asarray(indices)
        split_of = np.searchsorted(self.ends, examples, side="right")
        local = examples - np.concatenate([[0], self.ends])[split_of]
        counts = None
        if isinstance(self.splits[0][0], JaggedArray):
            counts = np.empty(len(examples), dtype=np.int64)
            for number, split in enumerate(self.splits[0]):
                assert isinstance(split, JaggedArray)
                counts[split_of == number] = split.counts[local[split_of == number]]
        width = (len(self.splits), *self.splits[0][0].shape[1:])
        result = allocate_rows(counts, len(examples), np.empty((0, *width), dtype=np.float32))
        values = result.values if isinstance(result, JaggedArray) else result
        for number in np.unique(split_of).tolist():
            places = np.flatnonzero(split_of == number).tolist()
            rows = result.row_indices(places) if isinstance(result, JaggedArray) else places
            for member, splits in enumerate(self.splits):
                values[rows, member] = splits[number][local[places].tolist()]
        return values if self.stacked else values[:, 0]


def cached_logits(
    teacher: Teacher,
    examples: DistillationDataset,
    content: str,
    preprocessor: Preprocessor[Any],
    max_length: int,
    hardware: Hardware,
    cache_dir: Path,
    split: str = "train",
    launcher: ProcessLauncher | None = None,
    view: str | None = None,
) -> tuple[ArrayOrJagged, float, bool]:
    """Return the teacher's logits of every example of a split at temperature 1, from the cache.

    The key covers the weights of the teacher, its processor, the content of the split, the maximum
    length of an example and the precision. In addition, a few examples are computed anew whenever
    the file is opened: where they differ, another version of a library has computed the file, and
    it is made anew, as a damaged one is.

    Args:
        teacher: a prepared teacher.
        examples: the split, encoded for the teacher.
        content: hash of the split's content.
        preprocessor: encoded the examples; part of the key.
        max_length: maximum number of tokens of an example.
        hardware: device of the computation.
        cache_dir: where the result is kept.
        split: name of the split, for the log.
        launcher: starts the processes that share the work; ``None``: this process alone.
        view: which view of the examples it is, with the settings of all; ``None``: themselves.

    Returns:
        Memory-mapped fp32 logits ``(N, C)`` in the order of the rows, or jagged where an example
        has several labeled positions; the seconds spent in this run (0 if reused), and whether
        they were reused.

    Raises:
        UserError: if the teacher's outputs are not finite numbers.
    """
    key = cache_key(
        kind="outputs", format=1, teacher=teacher.hash,
        tokenizer=preprocessor.processor_hash(teacher.processor), content=content,
        task=preprocessor.cache_key, max_length=max_length, precision=PRECISION,
        **({} if view is None else {"view": view}),
    )  # fmt: skip
    folder = cache_dir / "outputs" / key
    started = time.perf_counter()

    def compute(partial: Path) -> None:
        log.info("teacher: computing its outputs for %d examples of %s", len(examples), split)
        try:
            (launcher or ProcessLauncher()).run_on_all_ranks(
                _compute_logits, teacher.model, examples, hardware, partial / "logits.npy"
            )
        except RunError as error:
            shutil.rmtree(partial)
            raise UserError(f"the teacher {teacher.name} cannot teach: {error}") from error

    reused = get_or_create(folder, compute)
    if reused and not _agrees_with_sample(folder, teacher, examples, hardware):
        # The file is whole, so another version of a library has computed it.
        log.warning("cache: the logits in %s are no longer the teacher's: made anew", folder)
        with file_lock(folder):
            remove(folder)
        reused = get_or_create(folder, compute)
    logits = _by_example(folder, examples)
    assert logits is not None, "the file was just written, or compared with the examples"
    return logits, 0.0 if reused else time.perf_counter() - started, reused


def _compute_logits(
    process: ProcessRank,
    model: nn.Module,
    examples: DistillationDataset,
    hardware: Hardware,
    path: Path,
) -> None:
    """Compute the logits of the rank's examples; rank 0 writes those of all ranks."""
    file: np.memmap | None = None
    rows: ArrayOrJagged
    total, counts = _count_rows(examples), examples.position_counts
    for part in iter_logits(model, examples, hardware, process=process):
        parts = all_gather_object(part, process.world_size)
        if process.rank > 0:
            continue
        for indices, logits in parts:
            if file is None:
                shape = (total, *logits.shape[1:])
                file = np.lib.format.open_memmap(path, "w+", np.float32, shape)
                rows = file if counts is None else JaggedArray(file, counts)
            rows[indices] = logits
    if file is not None:
        file.flush()


def _by_example(folder: Path, examples: DistillationDataset) -> ArrayOrJagged | None:
    """Return the rows of the file by example; ``None`` if they are not as many."""
    values: np.ndarray = np.load(folder / "logits.npy", mmap_mode="r")
    if len(values) != _count_rows(examples):
        return None
    counts = examples.position_counts
    return values if counts is None else JaggedArray(values, counts)


def _count_rows(examples: DistillationDataset) -> int:
    """Return the number of rows of logits of all examples."""
    counts = examples.position_counts
    return len(examples) if counts is None else int(counts.sum())


def _agrees_with_sample(
    folder: Path, teacher: Teacher, examples: DistillationDataset, hardware: Hardware
) -> bool:
    """Compare the cached logits of a few examples with newly computed ones."""
    logits = _by_example(folder, examples)
    if logits is None:
        return False
    sample = np.linspace(
        0, len(examples) - 1, min(VERIFIED_EXAMPLES, len(examples)), dtype=int
    ).tolist()
    subset, cached = examples.select(sample), logits[sample]
    rows = allocate_rows(subset.position_counts, len(sample), cached)
    for indices, values in iter_logits(teacher.model, subset, hardware):
        rows[indices] = values
    computed = rows.values if isinstance(rows, JaggedArray) else rows
    # In a batch of other examples the padding differs, and with it the rounding.
    tolerance = 1e-3
    scale = max(1.0, float(np.abs(computed).max(initial=0.0)))
    return bool(np.abs(cached - computed).max(initial=0.0) <= tolerance * scale)
