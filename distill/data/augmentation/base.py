"""distill.data.augmentation.base"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from datasets import Dataset
from pyarrow.parquet import ParquetWriter

from distill.core.cache import cache_key, get_or_create
from distill.core.errors import UserError
from distill.data.columns import iter_chunks, iter_values

log = logging.getLogger(__name__)


# Texts that are in memory at a time: a multiple of what masked words are sorted within, which
# decides, by the rounding, what is made of them.
CHUNK_ROWS = 10_000


class Augmentation(Protocol):
    """What an augmentation looks like.

    Attributes:
        name: what reports call it.
        copies: texts that are made of each one.
    """

    name: str
    copies: int

    def settings(self) -> dict[str, Any]:
        """Plain values that determine what is made, a model's weights included.

        Raises:
            UserError: for a model or tokenizer that cannot do it.
        """

    def __call__(self, texts: Sequence[str]) -> list[list[str]]:
        """``copies`` new texts of each; a text's depend on nothing but it and the settings."""


def augment(
    augmentation: Augmentation, rows: Dataset, columns: Sequence[str], cache_dir: Path
) -> Dataset:
    """Make new rows out of labelled ones, or take them from the cache.

    Of a pair, the copies change in turn the first text, the second, and both, as those of Tang et
    al. 2019 do.

    Args:
        augmentation: makes them.
        rows: the training examples.
        columns: the text columns, ``text`` or ``text`` and ``text_pair``.
        cache_dir: where the result is kept under a key of the texts and the settings.

    Returns:
        Rows with the same columns, ``copies`` for each in the same order; some may be equal to
        others, or to what they were made of.
    """
    digest = hashlib.sha256()
    for column in columns:
        for text in iter_values(rows, column):
            digest.update(text.encode() + b"\x1f")
        digest.update(b"\x1e")
    settings = augmentation.settings()
    key = cache_key(kind="augmented", format=1, content=digest.hexdigest(), settings=settings)
    folder = cache_dir / "augmented" / f"{augmentation.name}-{key}"

    def make(partial: Path) -> None:
        log.info(
            "augmentation: making %d texts of each of %d (%s)",
            augmentation.copies, len(rows), augmentation.name,
        )  # fmt: skip
        schema = pa.schema([(column, pa.string()) for column in columns])
        with ParquetWriter(partial / "texts.parquet", schema) as file:
            for start, texts in iter_chunks(rows, columns, CHUNK_ROWS):
                if start:
                    log.info("augmentation: made of %d of all %d texts", start, len(rows))
                file.write_table(pa.table(_copies(augmentation, texts, columns), schema))

    if get_or_create(folder, make):
        log.info("augmentation: the texts were made before, reused")
    return Dataset.from_parquet(
        str(folder / "texts.parquet"), cache_dir=str(cache_dir / "datasets")
    )


def _copies(
    augmentation: Augmentation, texts: Mapping[str, Sequence[str]], columns: Sequence[str]
) -> dict[str, list[str]]:
    """The new rows of some, in their order."""
    copies = {column: augmentation(texts[column]) for column in columns}
    made: dict[str, list[str]] = {column: [] for column in columns}
    for row in range(len(texts[columns[0]])):
        for copy in range(augmentation.copies):
            changed = [(columns[0],), (columns[-1],), columns][copy % 3]
            for column in columns:
                is_changed = len(columns) == 1 or column in changed
                made[column].append(copies[column][row][copy] if is_changed else texts[column][row])
    return made


def text_generator(seed: int, text: str) -> np.random.Generator:
    """A text's own random numbers: what is made of it does not depend on its neighbours."""
    return np.random.default_rng([seed, int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])])


def check_probability(option: str, value: float) -> None:
    """Refuse what is no probability."""
    if not 0 <= value <= 1:
        raise UserError(f"data.augmentation.{option}={value}: it is a probability, from 0 to 1")


def check_positive(option: str, value: int) -> None:
    """Refuse what is below 1."""
    if value < 1:
        raise UserError(f"data.augmentation.{option}={value}: it must be 1 or more")
