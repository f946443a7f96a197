"""Examples of one split that return whole batches."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from datasets import Dataset
from torch.utils.data import DataLoader

from distill.core.jagged import ArrayOrJagged, JaggedArray
from distill.data.collate import Collator
from distill.data.columns import arrow_column, numeric_column
from distill.data.preprocessor import LENGTH, POSITIONS, PassSeed
from distill.data.sampler import BatchIndices, LengthGroupedBatchSampler
from distill.data.schema import LABEL
from distill.data.views import LogitsByView
from distill.distributed.environment import SINGLE_PROCESS, ProcessRank


class LogitsByIndex(Protocol):
    """Stored logits that are read by the indices of examples."""

    def __getitem__(self, indices: Sequence[int]) -> np.ndarray:
        """Return the logits of some examples, ``(B, C)`` or those of all their positions."""


class DistillationDataset(torch.utils.data.Dataset[dict[str, Any]]):
    """Encoded examples of one split: indices in, a batch of tensors out.

    An example has one row of logits; or, where the head reads single positions (rows with a column
    ``positions``), one row for each of them. The labeled positions of a batch are concatenated: U
    in all, and ``labels`` are as many or whatever the task makes of them.

    Args:
        student: rows encoded for the student.
        collate: collates them.
        teacher: the same examples encoded for a teacher that runs live.
        collate_teacher: collates those.
        teacher_logits: the teacher's stored logits, ``(N, C)`` or jagged, in the order of the rows;
            of each view where examples have several.
        examples_per_epoch: number of examples that one epoch has batches for, for a control beside
            a student that also learns from unlabeled inputs; ``None``: one pass.
        source: the split before it was encoded, for metrics that look at the inputs.
    """

    def __init__(
        self,
        student: Dataset,
        collate: Collator,
        teacher: Dataset | None = None,
        collate_teacher: Collator | None = None,
        teacher_logits: LogitsByIndex | LogitsByView | None = None,
        examples_per_epoch: int | None = None,
        source: Dataset | None = None,
    ):
        self.student, self.collate = student, collate
        self.teacher, self.collate_teacher = teacher, collate_teacher
        self.teacher_logits = teacher_logits
        self.examples_per_epoch = examples_per_epoch
        self.source = source

    def __len__(self) -> int:
        return len(self.student)

    @cached_property
    def position_counts(self) -> np.ndarray | None:
        """Positions with logits of each example, ``(N,)``; ``None`` for one row per example."""
        if self.collate.transform is not None:
            assert isinstance(self.labels, JaggedArray)
            return self.labels.counts
        if POSITIONS not in self.student.column_names:
            return None
        return self._counts(POSITIONS)

    @cached_property
    def label_counts(self) -> np.ndarray | None:
        """Labels of each example, ``(N,)``, which a loss averages over; ``None`` for one each."""
        return None if self.position_counts is None else self._counts(LABEL)

    @property
    def lengths(self) -> np.ndarray:
        """Cost of each example as the preprocessor states it, ``(N,)``."""
        return numeric_column(self.student, LENGTH)

    def column(self, name: str) -> pa.ChunkedArray:
        """Return a column as it is stored, without converting it to Python objects."""
        return arrow_column(getattr(self.student, "first", self.student), name)

    def _counts(self, column: str) -> np.ndarray:
        return pc.list_value_length(self.column(column)).to_numpy().astype(np.int64)

    @cached_property
    def labels(self) -> ArrayOrJagged:
        """All labels, ``(N, ...)`` or one per labeled position; with a transform, of evaluation."""
        if self.collate.transform is not None:
            return self._transformed_labels()
        if self.position_counts is None:
            return numeric_column(self.student, LABEL)
        return JaggedArray(pc.list_flatten(self.column(LABEL)).to_numpy(), self._counts(LABEL))

    @property
    def label_values(self) -> np.ndarray:
        """All labels in one array: ``(N, ...)``, or those of all labeled positions ``(U,)``."""
        labels = self.labels
        return labels.values if isinstance(labels, JaggedArray) else labels

    def _transformed_labels(self, size: int = 1000) -> JaggedArray:
        values: list[np.ndarray] = [np.empty(0, np.int64)]
        counts: list[int] = []
        for start in range(0, len(self), size):
            rows = self._rows(self.student, list(range(start, min(start + size, len(self)))), None)
            counts += map(len, rows[LABEL])
            values.append(np.fromiter(chain.from_iterable(rows[LABEL]), np.int64))
        return JaggedArray(np.concatenate(values), np.asarray(counts, dtype=np.int64))

    def _rows(self, split: Dataset, indices: list[int], pass_seed: PassSeed) -> Mapping[str, Any]:
        transform = self.collate.transform
        return split[indices] if transform is None else transform(split[indices], pass_seed)

    def _seen(
        self, rows: Mapping[str, Any], collate: Collator, pass_seed: PassSeed
    ) -> Mapping[str, Any]:
        """Return rows as a model sees them in a pass."""
        return rows if collate.views is None else collate.views(rows, pass_seed)

    def embedding_ids(self) -> np.ndarray | None:
        """Return the sorted ids that index the student's embeddings in any batch.

        ``None`` if they cannot be known: batches are transformed, or no field indexes embeddings.
        """
        fields = [field for field in self.collate.fields if field.embedding_ids]
        if self.collate.transform is not None or not fields:
            return None
        ids = {int(field.fill) for field in fields}
        for field in fields:
            for chunk in self.column(field.name).chunks:
                ids.update(np.unique(chunk.flatten().to_numpy()).tolist())
        return np.array(sorted(ids), dtype=np.int64)

    def select(self, indices: Sequence[int]) -> "DistillationDataset":
        """Return some of the examples, without a teacher."""
        return DistillationDataset(self.student.select(indices), self.collate, source=self.source)

    def __getitem__(self, indices: list[int]) -> dict[str, Any]:
        """Return a batch.

        Keys: ``student``, the model's inputs; ``labels`` ``(B,)`` or one per labeled position;
        ``rows`` ``(B,)``, the indices; where the head reads positions ``position_counts`` ``(B,)``;
        where there is a teacher ``teacher``, its inputs, or ``teacher_logits`` ``(B, C)`` or
        ``(U, C)``.

        Where several processes share the batch this is the rank's part, and ``batch_share`` is
        its size as a multiple of the mean part. If it is empty a placeholder example is returned
        and ``rows`` is empty. A plain list is a batch of a single process.
        """
        whole = indices if isinstance(indices, BatchIndices) else BatchIndices(indices)
        part, pass_seed, world_size = whole.rank_part, whole.pass_seed, whole.process.world_size
        indices = part or whole[:1]
        rows = self._rows(self.student, indices, pass_seed)
        batch: dict[str, Any] = {
            "student": self.collate(self._seen(rows, self.collate, pass_seed)),
            "rows": torch.tensor(part, dtype=torch.int64),
        }
        labels, dtype = rows[LABEL], None
        if POSITIONS in rows:
            labels, dtype = list(chain.from_iterable(labels)), torch.int64  # there may be none
            counts = [len(positions) for positions in rows[POSITIONS]]
            batch["position_counts"] = torch.tensor(counts)
        batch["labels"] = torch.tensor(labels, dtype=dtype)
        if world_size > 1:
            total = max(1, self._weight(whole, pass_seed))  # there may be nothing to weigh
            batch["batch_share"] = self._weight(part, pass_seed) * world_size / total
        if self.teacher is not None and self.collate_teacher is not None:
            of_teacher = self._rows(self.teacher, indices, pass_seed)
            of_teacher = self._seen(of_teacher, self.collate_teacher, pass_seed)
            batch["teacher"] = self.collate_teacher(of_teacher)
        if isinstance(self.teacher_logits, LogitsByView):
            assert self.collate.views is not None
            numbers = self.collate.views.numbers(rows, pass_seed)
            assert numbers is not None, "stored logits are of views, which training alone draws"
            batch["teacher_logits"] = torch.from_numpy(self.teacher_logits.at(indices, numbers))
        elif self.teacher_logits is not None:
            batch["teacher_logits"] = torch.from_numpy(self.teacher_logits[indices])
        return batch

    def _weight(self, indices: list[int], pass_seed: PassSeed) -> int:
        """Number of rows that a loss averages over."""
        if self.collate.transform is not None:
            if not indices:
                return 0
            return sum(map(len, self._rows(self.student, indices, pass_seed)[LABEL]))
        return len(indices) if self.label_counts is None else int(self.label_counts[indices].sum())

    def loader(
        self, batch_size: int, seed: int | None, process: ProcessRank = SINGLE_PROCESS
    ) -> DataLoader[dict[str, Any]]:
        """Return a process's parts of batches of similar length; shuffled if a seed is given."""
        examples = self.examples_per_epoch
        batches = None if examples is None else -(-examples // batch_size)
        sampler = LengthGroupedBatchSampler(self.lengths, batch_size, seed, batches, process)
        # sampler, not batch_sampler: the dataset itself returns whole batches. The generator is
        # separate because every pass draws from it, and a resumed training makes one pass less than
        # an uninterrupted one: the random state of dropout must not depend on that.
        return DataLoader(self, sampler=sampler, batch_size=None, generator=torch.Generator())
