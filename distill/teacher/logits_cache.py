"""The teacher's logits, computed once per teacher and data, memory-mapped for ever after."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from distill.core.cache import cache_key, get_or_create
from distill.core.errors import UserError
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

# A stored split is checked against the teacher on so many examples each time it is opened.
VERIFIED_EXAMPLES = 8


class ConcatLogits:
    """Stored logits of several splits, one after another, of one teacher or of several.

    The files stay memory-mapped: what is asked for is read, nothing else.

    Args:
        splits: of each teacher, the logits of each split, ``(N_i, C)`` or ragged.
        stacked: whether they are an ensemble; a single teacher's logits have no axis for it.
    """

    def __init__(self, splits: Sequence[Sequence[ArrayOrJagged]], stacked: bool):
        self.splits, self.stacked = splits, stacked
        self.ends = np.cumsum([len(split) for split in splits[0]])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, indices: Sequence[int]) -> np.ndarray:
        """``(B, C)``, or ``(U, C)`` of B examples; of several teachers ``(B, K, C)``."""
        indices = np.asarray(indices)
        split_of = np.searchsorted(self.ends, indices, side="right")
        local = indices - np.concatenate([[0], self.ends])[split_of]
        first = self.splits[0]
        counts = None
        if isinstance(first[0], JaggedArray):
            counts = np.empty(len(indices), dtype=np.int64)
            for split in np.unique(split_of):
                counts[split_of == split] = first[split].counts[local[split_of == split]]
        width = (len(self.splits), *first[0].shape[1:])
        result = allocate_rows(counts, len(indices), np.empty((0, *width), dtype=np.float32))
        values = result.values if isinstance(result, JaggedArray) else result
        for split in np.unique(split_of):
            chosen = np.flatnonzero(split_of == split)
            rows = result.row_indices(chosen) if isinstance(result, JaggedArray) else chosen
            for member, files in enumerate(self.splits):
                values[rows, member] = files[split][local[chosen]]
        return values if self.stacked else values[:, 0]


def cached_logits(
    teacher: Teacher,
    examples: DistillationDataset,
    content: str,
    preprocessor: Preprocessor[Any],
    max_length: int,
    hardware: Hardware,
    cache_dir: Path,
    what: str = "train",
    launcher: ProcessLauncher | None = None,
) -> tuple[ArrayOrJagged, float, bool]:
    """Logits of the teacher for every example of a split, at temperature 1.

    The key covers the teacher's weights, its tokenizer, the split's content, the length examples
    are cut to and the precision. Besides, a few examples are computed anew whenever the file is
    opened: what was damaged or made by another version of a library is found out.

    Args:
        teacher: made ready.
        examples: the split, encoded for the teacher.
        content: hash of the split's content.
        preprocessor: encoded the examples; part of the key.
        max_length: tokens an example was cut to.
        hardware: where and how precisely to compute.
        cache_dir: where the result is kept.
        what: the split's name, for the log.
        launcher: of the processes that compute them together; ``None``: this one alone.

    Returns:
        Memory-mapped fp32 logits ``(N, C)`` in the order of the rows, or ragged where an example
        has several units; the seconds it took in this run (0 where reused), and whether it was
        reused.

    Raises:
        UserError: if what is stored is not what the teacher says.
    """
    key = cache_key(
        kind="outputs", format=1, teacher=teacher.hash, tokenizer=preprocessor.processor_hash(teacher.processor),
        content=content, task=preprocessor.cache_key, max_length=max_length, precision=hardware.precision,
    )  # fmt: skip
    folder = cache_dir / "outputs" / key
    started = time.perf_counter()

    def compute(partial: Path) -> None:
        log.info("teacher: computing its outputs for %d examples of %s", len(examples), what)
        (launcher or ProcessLauncher()).run_on_all_ranks(
            _compute_logits, teacher.model, examples, hardware, partial / "logits.npy"
        )

    reused = get_or_create(folder, compute)
    logits = _by_example(np.load(folder / "logits.npy", mmap_mode="r"), examples, folder)
    if reused:
        _verify_sample(logits, teacher, examples, hardware, folder)
    return logits, 0.0 if reused else time.perf_counter() - started, reused


def _compute_logits(
    process: ProcessRank,
    model: PreTrainedModel,
    examples: DistillationDataset,
    hardware: Hardware,
    path: Path,
) -> None:
    """One process's part; the first writes what all of them have."""
    file: np.memmap | None = None
    total = (
        len(examples) if examples.position_counts is None else int(examples.position_counts.sum())
    )
    for own in iter_logits(model, examples, hardware, process=process):
        parts = all_gather_object(own, process.world_size)
        if process.rank > 0:
            continue
        for indices, logits in parts:
            if file is None:
                shape = (total, *logits.shape[1:])
                file = np.lib.format.open_memmap(path, "w+", np.float32, shape)
                rows = (
                    file
                    if examples.position_counts is None
                    else JaggedArray(file, examples.position_counts)
                )
            rows[indices] = logits
    if file is not None:
        file.flush()


def _by_example(values: np.ndarray, examples: DistillationDataset, folder: Path) -> ArrayOrJagged:
    """The file's rows by example."""
    total = (
        len(examples) if examples.position_counts is None else int(examples.position_counts.sum())
    )
    if len(values) != total:
        raise _stale_error(folder)
    return (
        values
        if examples.position_counts is None
        else JaggedArray(values, examples.position_counts)
    )


def _verify_sample(
    logits: ArrayOrJagged,
    teacher: Teacher,
    examples: DistillationDataset,
    hardware: Hardware,
    folder: Path,
) -> None:
    chosen = np.linspace(
        0, len(examples) - 1, min(VERIFIED_EXAMPLES, len(examples)), dtype=int
    ).tolist()
    subset, cached_logits = examples.select(chosen), logits[chosen]
    fresh = allocate_rows(subset.position_counts, len(chosen), cached_logits)
    for indices, values in iter_logits(teacher.model, subset, hardware):
        fresh[indices] = values
    fresh = fresh.values if isinstance(fresh, JaggedArray) else fresh
    # Other companions in the batch change the padding, and with it the rounding.
    tolerance = 1e-3 if hardware.precision == "32-true" else 0.05
    scale = max(1.0, float(np.abs(fresh).max(initial=0.0)))
    if not np.abs(cached_logits - fresh).max(initial=0.0) <= tolerance * scale:
        raise _stale_error(folder)


def _stale_error(folder: Path) -> UserError:
    return UserError(
        f"the stored outputs in {folder} are not what the teacher says now: delete that folder"
    )
