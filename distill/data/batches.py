"""Tokenised examples, and batches of like length padded to their longest."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain, count, islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from transformers import PreTrainedTokenizerBase

from distill.cache import key_of, locked
from distill.data.columns import numbers, stored
from distill.errors import UserError
from distill.processes import share
from distill.ragged import Ragged, Rows

# Shuffled examples are sorted by length within pools of so many batches: enough for batches of
# nearly equal length, few enough that what stands in one batch differs from epoch to epoch.
POOL_BATCHES = 50
IGNORED_LABEL = -100
# The column of the tokens that a head reads, where it does not read the whole text.
POSITIONS = "positions"


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash of everything that determines what a tokenizer gives a model."""
    parts = [type(tokenizer).__name__, *_tokens(tokenizer), str(tokenizer.model_input_names)]
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]


def same_tokens(first: PreTrainedTokenizerBase, second: PreTrainedTokenizerBase) -> bool:
    """Whether two tokenizers turn every text into the same ids."""
    return _tokens(first) == _tokens(second)


def _tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    state = json.loads(backend.to_str()) if backend is not None else tokenizer.get_vocab()
    # What the last call asked for, not what the tokenizer is.
    state = {key: value for key, value in state.items() if key not in ("truncation", "padding")}
    content = json.dumps(state, sort_keys=True)
    special = sorted(map(str, tokenizer.special_tokens_map.items()))
    return content, str(special)


def encode(
    rows: Dataset,
    content: str,
    tokenizer: PreTrainedTokenizerBase,
    task,
    max_length: int,
    cache_dir: Path,
) -> Dataset:
    """Tokenise a split once; a later call with the same content maps the stored file.

    Args:
        rows: examples with the task's columns and ``label``.
        content: hash of their content.
        tokenizer: any tokenizer.
        task: its ``encode`` turns rows into ids and labels.
        max_length: tokens an example is cut to.
        cache_dir: where the result is kept.

    Returns:
        Memory-mapped rows with the tokenizer's ids, ``label`` and ``length``.

    Raises:
        UserError: if the task leaves out every row.
    """
    key = key_of(
        kind="encoded", format=1, content=content, tokenizer=tokenizer_hash(tokenizer),
        task=task.encoding, max_length=max_length,
    )  # fmt: skip

    def tokenise(batch: Mapping[str, list], indices: list[int]) -> dict[str, list]:
        encoded = task.encode(tokenizer, {**batch, "row": indices}, max_length)
        lengths = [len(ids) for ids in encoded["input_ids"]]
        return encoded | {"length": lengths}

    file = cache_dir / "encoded" / f"{key}.arrow"
    with locked(file):
        encoded = rows.map(
            tokenise,
            batched=True,
            with_indices=True,
            remove_columns=rows.column_names,
            cache_file_name=str(file),
            new_fingerprint=key,
        )
    if not len(encoded):
        raise UserError(
            f"nothing is left of a split of {len(rows)}, which begins with "
            f"'{task.plain(rows[0]['text'])[:40]}': {type(tokenizer).__name__} knows no token of it"
        )
    return encoded


class Drawn(list[int]):
    """A batch's indices, and which pass draws them: the training's seed and the pass's number."""

    def __init__(self, indices: Sequence[int], draw: tuple[int, int]):
        super().__init__(indices)
        self.draw = draw


class LengthBatches(Sampler[list[int]]):
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
            yield Drawn(batch, (self.seed, number))

    def _shuffled(self, number: int) -> Iterator[list[int]]:
        """One pass over all examples."""
        random = np.random.default_rng([self.seed, number])
        order = random.permutation(len(self.lengths))
        pool = POOL_BATCHES * self.batch_size
        for start in range(0, len(order), pool):
            order[start : start + pool] = _sorted_by(self.lengths, order[start : start + pool])
        yield from self._cut(order, random.permutation(self._in_a_pass))

    def _cut(self, order: np.ndarray, which: Iterable[int]) -> Iterator[list[int]]:
        """Batches by their number, made one at a time: a pass of them all at once is large."""
        for index in which:
            yield order[index * self.batch_size : (index + 1) * self.batch_size].tolist()


def _sorted_by(lengths: np.ndarray, indices: np.ndarray) -> np.ndarray:
    return indices[np.argsort(lengths[indices], kind="stable")]


class Collate:
    """Rows -> tensors, padded to the longest row of the batch.

    Args:
        tokenizer: whose padding values are used.
        transform: what the task makes of rows before, ``(rows, draw) -> rows``; ``draw`` is the
            pass of a training they are read in, ``None`` in an evaluation. It gives positions.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, transform: Callable | None = None):
        self.transform = transform
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.padding = {
            "input_ids": tokenizer.pad_token_id,
            "token_type_ids": tokenizer.pad_token_type_id,
        }

    def __call__(self, rows: Mapping[str, list]) -> dict[str, Tensor]:
        """Ids ``(B, L)``, ``attention_mask`` ``(B, L)``, and ``positions`` ``(B, P)`` if given."""
        lengths = np.array([len(ids) for ids in rows["input_ids"]])
        batch = {"attention_mask": (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)}
        for key, value in self.padding.items():
            if key in rows:
                batch[key] = _padded(rows[key], value)
        if POSITIONS in rows:
            batch[POSITIONS] = _padded(rows[POSITIONS], -1)
        return {key: torch.from_numpy(value) for key, value in batch.items()}


def _padded(rows: Sequence[Sequence[int]], value: int) -> np.ndarray:
    """Whole numbers of several lengths, filled up: ``(B, longest)``."""
    padded = np.full((len(rows), max(map(len, rows))), value, dtype=np.int64)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return padded


class Batches(torch.utils.data.Dataset):
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
        collate: Collate,
        teacher: Dataset | None = None,
        collate_teacher: Collate | None = None,
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
        return stored(getattr(self.student, "first", self.student), name)

    def _counts(self, column: str) -> np.ndarray:
        return pc.list_value_length(self.column(column)).to_numpy().astype(np.int64)

    @cached_property
    def labels(self) -> Rows:
        """All labels: ``(N, ...)``, or one for each unit; those of an evaluation."""
        if self.collate.transform is not None:
            return self._transformed_labels()
        if self.units is None:
            return numbers(self.student, "label")
        return Ragged(pc.list_flatten(self.column("label")).to_numpy(), self._counts("label"))

    def _transformed_labels(self, size: int = 1000) -> Ragged:
        values, counts = [np.empty(0, np.int64)], []
        for start in range(0, len(self), size):
            rows = self._rows(self.student, list(range(start, min(start + size, len(self)))), None)
            counts += map(len, rows["label"])
            values.append(np.fromiter(chain.from_iterable(rows["label"]), np.int64))
        return Ragged(np.concatenate(values), np.asarray(counts, dtype=np.int64))

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

    def select(self, indices: Sequence[int]) -> "Batches":
        """Some of the examples, without a teacher."""
        return Batches(self.student.select(indices), self.collate, source=self.source)

    def __getitem__(self, indices: list[int]) -> dict[str, dict[str, Tensor] | Tensor]:
        """Inputs by role, ``labels``, ``rows``, and ``teacher_logits`` where stored.

        ``labels`` are ``(B,)`` or one for each unit, ``teacher_logits`` ``(B, C)`` or ``(U, C)``,
        ``units`` ``(B,)`` where the examples have any; ``rows`` are the indices.

        Where several processes share the batch it is this one's part, and ``part`` says how large
        it is, from 0, as a multiple of the mean part. Where there is none an example stands in, and
        ``rows`` is empty.
        """
        draw = getattr(indices, "draw", None)
        rank, count = share()
        whole, own = indices, indices[rank::count]
        indices = own or indices[:1]
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

    def loader(self, batch_size: int, seed: int | None) -> DataLoader:
        """Batches of like length; shuffled if a seed is given."""
        batches = None if self.as_many_as is None else -(-self.as_many_as // batch_size)
        sampler = LengthBatches(numbers(self.student, "length"), batch_size, seed, batches)
        # sampler, not batch_sampler: the data set itself gives whole batches. It has a generator of
        # its own, for every pass draws from it, and a resumed training makes one pass less than one
        # that was never stopped: dropout's random state must not notice.
        return DataLoader(self, sampler=sampler, batch_size=None, generator=torch.Generator())
