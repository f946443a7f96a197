"""The teacher's logits, computed once per teacher and data, memory-mapped for ever after."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel

from distill.cache import key_of, made_once
from distill.data.batches import Batches, tokenizer_hash
from distill.errors import UserError
from distill.hardware import Hardware
from distill.inference import logits_of
from distill.processes import Processes, gathered, share
from distill.teacher.ready import Teacher

log = logging.getLogger(__name__)

# A stored split is checked against the teacher on so many examples each time it is opened.
CHECKED = 8


class Joined:
    """Stored logits of several splits, one after another, of one teacher or of several.

    The files stay memory-mapped: what is asked for is read, nothing else.

    Args:
        splits: of each teacher, the logits of each split, ``(N_i, C)``.
        stacked: whether they are an ensemble; a single teacher's logits have no axis for it.
    """

    def __init__(self, splits: Sequence[Sequence[np.ndarray]], stacked: bool):
        self.splits, self.stacked = splits, stacked
        self.ends = np.cumsum([len(split) for split in splits[0]])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, indices: Sequence[int]) -> np.ndarray:
        """``(B, C)``; of several teachers ``(B, K, C)``."""
        indices = np.asarray(indices)
        split_of = np.searchsorted(self.ends, indices, side="right")
        starts = np.concatenate([[0], self.ends])
        result = np.empty(
            (len(indices), len(self.splits), *self.splits[0][0].shape[1:]), dtype=np.float32
        )
        for split in np.unique(split_of):
            rows = split_of == split
            for member, files in enumerate(self.splits):
                result[rows, member] = files[split][indices[rows] - starts[split]]
        return result if self.stacked else result[:, 0]


def stored(
    teacher: Teacher,
    examples: Batches,
    content: str,
    task,
    max_length: int,
    hardware: Hardware,
    cache_dir: Path,
    what: str = "train",
    processes: Processes | None = None,
) -> tuple[np.ndarray, float, bool]:
    """Logits of the teacher for every example of a split, at temperature 1.

    The key covers the teacher's weights, its tokenizer, the split's content, the length examples
    are cut to and the precision. Besides, a few examples are computed anew whenever the file is
    opened: what was damaged or made by another version of a library is found out.

    Args:
        teacher: made ready.
        examples: the split, encoded for the teacher.
        content: hash of the split's content.
        task: its name is part of the key.
        max_length: tokens an example was cut to.
        hardware: where and how precisely to compute.
        cache_dir: where the result is kept.
        what: the split's name, for the log.
        processes: that compute them together; ``None``: this one alone.

    Returns:
        Memory-mapped fp32 logits ``(N, C)`` in the order of the rows, the seconds it took in this
        run (0 where reused), and whether it was reused.

    Raises:
        UserError: if what is stored is not what the teacher says.
    """
    key = key_of(
        kind="outputs", format=1, teacher=teacher.hash, tokenizer=tokenizer_hash(teacher.tokenizer),
        content=content, task=task.name, max_length=max_length, precision=hardware.precision,
    )  # fmt: skip
    folder = cache_dir / "outputs" / key
    started = time.perf_counter()

    def compute(partial: Path) -> None:
        log.info("teacher: computing its outputs for %d examples of %s", len(examples), what)
        (processes or Processes()).together(
            _compute, teacher.model, examples, hardware, partial / "logits.npy"
        )

    reused = made_once(folder, compute)
    logits = np.load(folder / "logits.npy", mmap_mode="r")
    if reused:
        _check(logits, teacher, examples, hardware, folder)
    return logits, 0.0 if reused else time.perf_counter() - started, reused


def _compute(model: PreTrainedModel, examples: Batches, hardware: Hardware, path: Path) -> None:
    """One process's part; the first writes what all of them have."""
    file: np.memmap | None = None
    for own in logits_of(model, examples, hardware):
        parts = gathered(own)
        if share()[0] > 0:
            continue
        for indices, logits in parts:
            if file is None:
                shape = (len(examples), *logits.shape[1:])
                file = np.lib.format.open_memmap(path, "w+", np.float32, shape)
            file[indices] = logits
    if file is not None:
        file.flush()


def _check(
    logits: np.ndarray, teacher: Teacher, examples: Batches, hardware: Hardware, folder: Path
) -> None:
    chosen = np.linspace(0, len(examples) - 1, min(CHECKED, len(examples)), dtype=int).tolist()
    if len(logits) == len(examples):
        subset = Batches(examples.student.select(chosen), examples.collate)
        fresh = np.empty((len(chosen), *logits.shape[1:]), dtype=np.float32)
        for indices, values in logits_of(teacher.model, subset, hardware):
            fresh[indices] = values
        # Other companions in the batch change the padding, and with it the rounding.
        tolerance = 1e-3 if hardware.precision == "32-true" else 0.05
        scale = max(1.0, float(np.abs(fresh).max()))
        if np.abs(logits[chosen] - fresh).max() <= tolerance * scale:
            return
    raise UserError(
        f"the stored outputs in {folder} are not what the teacher says now: delete that folder"
    )
