"""The interface of augmentations, and the cache of augmented rows."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from datasets import Dataset

from distill.core.cache import cache_key, entry_name, get_or_create
from distill.core.errors import UserError
from distill.data.columns import iter_chunks, iter_values

log = logging.getLogger(__name__)


# Number of texts in memory at a time. A multiple of masked_words.CHUNK_TEXTS, within which texts
# are sorted into batches: the rounding in a batch affects the result.
CHUNK_ROWS = 10_000


class Augmentation(Protocol):
    """Generates new texts from given ones.

    Attributes:
        name: name in reports.
        copies: number of new texts per text.
    """

    name: str
    copies: int

    def settings(self) -> dict[str, Any]:
        """Return plain values that determine the result, including a hash of a model's weights.

        Raises:
            UserError: for a model or tokenizer that is not suitable.
        """

    def __call__(self, texts: Sequence[str]) -> list[list[str]]:
        """Return ``copies`` new texts for each text, which depend on it and the settings alone."""


def augment(
    augmentation: Augmentation, rows: Dataset, columns: Sequence[str], cache_dir: Path
) -> Dataset:
    """Return new rows generated from training examples, from the cache if they are there.

    The copies of a pair change in turn the first text, the second text, and both, as in Tang et
    al. 2019.

    Args:
        augmentation: generates the texts.
        rows: the training examples.
        columns: the text columns, ``text`` or ``text`` and ``text_pair``.
        cache_dir: where the result is kept under a key of the texts and the settings.

    Returns:
        Rows with the same columns, ``copies`` for each example in the same order; they may contain
        duplicates and unchanged texts.
    """
    digest = hashlib.sha256()
    for column in columns:
        for text in iter_values(rows, column):
            digest.update(text.encode() + b"\x1f")
        digest.update(b"\x1e")
    settings = augmentation.settings()
    key = cache_key(kind="augmented", format=1, content=digest.hexdigest(), settings=settings)
    folder = cache_dir / "augmented" / entry_name(augmentation.name, key)

    def make(partial: Path) -> None:
        log.info(
            "augmentation: generating %d texts from each of %d (%s)",
            augmentation.copies, len(rows), augmentation.name,
        )  # fmt: skip
        schema = pa.schema([(column, pa.string()) for column in columns])
        with pa.ipc.new_stream(str(partial / "texts.arrow"), schema) as file:
            for start, texts in iter_chunks(rows, columns, CHUNK_ROWS):
                if start:
                    log.info("augmentation: %d of all %d texts are done", start, len(rows))
                file.write_table(pa.table(_copies(augmentation, texts, columns), schema))

    if get_or_create(folder, make):
        log.info("augmentation: the generated texts are reused from the cache")
    return Dataset.from_file(str(folder / "texts.arrow"))


def _copies(
    augmentation: Augmentation, texts: Mapping[str, Sequence[str]], columns: Sequence[str]
) -> dict[str, list[str]]:
    """Return the new rows of a chunk of texts, by column."""
    copies = {column: augmentation(texts[column]) for column in columns}
    rows: dict[str, list[str]] = {column: [] for column in columns}
    for row in range(len(texts[columns[0]])):
        for copy in range(augmentation.copies):
            changed = [(columns[0],), (columns[-1],), columns][copy % 3]
            for column in columns:
                is_changed = len(columns) == 1 or column in changed
                rows[column].append(copies[column][row][copy] if is_changed else texts[column][row])
    return rows


def text_generator(seed: int, text: str) -> np.random.Generator:
    """Return a random generator seeded by a text, so that its copies depend on it alone."""
    return np.random.default_rng([seed, int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])])


def check_probability(option: str, value: float) -> None:
    """Raise a ``UserError`` for an option that is no probability."""
    if not 0 <= value <= 1:
        raise UserError(f"data.augmentation.{option}={value}: it is a probability, from 0 to 1")


def check_positive(option: str, value: int) -> None:
    """Raise a ``UserError`` for an option below 1."""
    if value < 1:
        raise UserError(f"data.augmentation.{option}={value}: it must be 1 or more")
