"""distill.data.dataset"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.data import DataLoader

from distill.core.jagged import ArrayOrJagged, JaggedArray
from distill.data.collate import POSITIONS, PaddingCollator
from distill.data.columns import arrow_column, numeric_column
from distill.data.sampler import BatchIndices, LengthGroupedBatchSampler
from distill.distributed.environment import SINGLE_PROCESS, ProcessRank


class DistillationDataset(torch.utils.data.Dataset):
    """Examples of one split that give whole batches: indices in, tensors out.

    An example has one row of logits; or, where its tokens are what is asked about (rows with a
    column ``positions``), one for each of these, its units. The units of a batch stand one after
    another: U in all, and ``labels`` are as many or whatever the task makes of them.

    Args:
        student: rows encoded for the student.
        collate: pads them.
        teacher: the same examples encoded for a teacher that runs live.
        collate_teacher: pads those.
        teacher_logits: the teacher's stored logits, ``(N, C)`` or ragged, in the order of the rows.
        as_many_as: an epoch has as many batches as it has with so many examples, for a control
            beside a student that also sees texts without labels; ``None``: one pass.
        source: the split before it was encoded, for tasks whose metrics look at the texts.
    """

    def __init__(
        self,
        student: Dataset,
        collate: PaddingCollator,
        teacher: Dataset | None = None,
        collate_teacher: PaddingCollator | None = None,
        teacher_logits: Sequence | None = None,
        as_many_as: int | None = None,
        source: Dataset | None = None,
    ):
        self.student, self.collate = student, collate
        self.teacher, self.collate_teacher = teacher, collate_teacher
        self.teacher_logits = teacher_logits
        self.as_many_as = as_many_as
        self.source = source

    def __len__(self) -> int:
        return len(self.student)

    @cached_property
    def units(self) -> np.ndarray | None:
        """Units of each example, ``(N,)``; ``None`` where the example itself is the only one."""
        if self.collate.transform is not None:
            return self.labels.counts
        if POSITIONS not in self.student.column_names:
            return None
        return self._counts(POSITIONS)

    @cached_property
    def terms(self) -> np.ndarray | None:
        """Over how many rows a loss is a mean, for each example ``(N,)``: one for each label."""
        return None if self.units is None else self._counts("label")

    def column(self, name: str) -> pa.ChunkedArray:
        """A column of the rows as it is stored, none of it turned into Python's own objects."""
        return arrow_column(getattr(self.student, "first", self.student), name)

    def _counts(self, column: str) -> np.ndarray:
        return pc.list_value_length(self.column(column)).to_numpy().astype(np.int64)

    @cached_property
    def labels(self) -> ArrayOrJagged:
        """All labels: ``(N, ...)``, or one for each unit; those of an evaluation."""
        if self.collate.transform is not None:
            return self._transformed_labels()
        if self.units is None:
            return numeric_column(self.student, "label")
        return JaggedArray(pc.list_flatten(self.column("label")).to_numpy(), self._counts("label"))

    def _transformed_labels(self, size: int = 1000) -> JaggedArray:
        values, counts = [np.empty(0, np.int64)], []
        for start in range(0, len(self), size):
            rows = self._rows(self.student, list(range(start, min(start + size, len(self)))), None)
            counts += map(len, rows["label"])
            values.append(np.fromiter(chain.from_iterable(rows["label"]), np.int64))
        return JaggedArray(np.concatenate(values), np.asarray(counts, dtype=np.int64))

    def _rows(self, split: Dataset, indices: list[int], draw: tuple[int, int] | None) -> Mapping:
        transform = self.collate.transform
        return split[indices] if transform is None else transform(split[indices], draw)

    def occurring_ids(self) -> np.ndarray | None:
        """Every token id that a batch for the student may hold, sorted; ``None``: any."""
        if self.collate.transform is not None:
            return None
        seen = {self.collate.padding["input_ids"]}
        for chunk in self.column("input_ids").chunks:
            seen.update(np.unique(chunk.flatten().to_numpy()).tolist())
        return np.array(sorted(seen), dtype=np.int64)

    def select(self, indices: Sequence[int]) -> "DistillationDataset":
        """Some of the examples, without a teacher."""
        return DistillationDataset(self.student.select(indices), self.collate, source=self.source)

    def __getitem__(self, indices: list[int]) -> dict[str, dict[str, Tensor] | Tensor]:
        """Inputs by role, ``labels``, ``rows``, and ``teacher_logits`` where stored.

        ``labels`` are ``(B,)`` or one for each unit, ``teacher_logits`` ``(B, C)`` or ``(U, C)``,
        ``units`` ``(B,)`` where the examples have any; ``rows`` are the indices.

        Where several processes share the batch it is this one's part, and ``part`` says how large
        it is, from 0, as a multiple of the mean part. Where there is none an example stands in, and
        ``rows`` is empty. Plain lists are batches of a single process.
        """
        whole = indices if isinstance(indices, BatchIndices) else BatchIndices(indices)
        own, draw, count = whole.own, whole.pass_seed, whole.process.world_size
        indices = own or whole[:1]
        rows = self._rows(self.student, indices, draw)
        batch = {"student": self.collate(rows), "rows": torch.tensor(own, dtype=torch.int64)}
        labels, kind = rows["label"], None
        if POSITIONS in rows:
            labels, kind = list(chain.from_iterable(labels)), torch.int64  # there may be none
            batch["units"] = torch.tensor([len(positions) for positions in rows[POSITIONS]])
        batch["labels"] = torch.tensor(labels, dtype=kind)
        if count > 1:
            # There may be nothing to weigh.
            batch["part"] = self._weight(own, draw) * count / max(1, self._weight(whole, draw))
        if self.teacher is not None:
            batch["teacher"] = self.collate_teacher(self._rows(self.teacher, indices, draw))
        if self.teacher_logits is not None:
            batch["teacher_logits"] = torch.from_numpy(self.teacher_logits[indices])
        return batch

    def _weight(self, indices: list[int], draw: tuple[int, int] | None) -> int:
        if self.collate.transform is not None:
            return sum(map(len, self._rows(self.student, indices, draw)["label"])) if indices else 0
        return len(indices) if self.terms is None else int(self.terms[indices].sum())

    def loader(
        self, batch_size: int, seed: int | None, process: ProcessRank = SINGLE_PROCESS
    ) -> DataLoader:
        """Batches of like length, or a process's part of each; shuffled if a seed is given."""
        batches = None if self.as_many_as is None else -(-self.as_many_as // batch_size)
        sampler = LengthGroupedBatchSampler(
            numeric_column(self.student, "length"), batch_size, seed, batches, process
        )
        # sampler, not batch_sampler: the data set itself gives whole batches. It has a generator of
        # its own, for every pass draws from it, and a resumed training makes one pass less than one
        # that was never stopped: dropout's random state must not notice.
        return DataLoader(self, sampler=sampler, batch_size=None, generator=torch.Generator())
