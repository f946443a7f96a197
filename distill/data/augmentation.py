"""Further texts made out of the training examples, to be labelled by the teacher.

An augmentation is a node of conf/augmentation with two methods, see :class:`Augmentation`. What it
makes carries no label, for a word that is masked or replaced may be the one that decided it: the
teacher says what it thinks of the new text, and the student learns from that alone.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from datasets import Dataset
from pyarrow.parquet import ParquetWriter

from distill import models
from distill.cache import key_of, made_once
from distill.data.columns import pieces, values
from distill.errors import UserError

log = logging.getLogger(__name__)

# Texts that are in memory at a time: a multiple of what masked words are sorted within, which
# decides, by the rounding, what is made of them.
PIECE = 10_000


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


def augmented(
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
        for text in values(rows, column):
            digest.update(text.encode() + b"\x1f")
        digest.update(b"\x1e")
    settings = augmentation.settings()
    key = key_of(kind="augmented", format=1, content=digest.hexdigest(), settings=settings)
    folder = cache_dir / "augmented" / f"{augmentation.name}-{key}"

    def make(partial: Path) -> None:
        log.info(
            "augmentation: making %d texts of each of %d (%s)",
            augmentation.copies, len(rows), augmentation.name,
        )  # fmt: skip
        schema = pa.schema([(column, pa.string()) for column in columns])
        with ParquetWriter(partial / "texts.parquet", schema) as file:
            for start, texts in pieces(rows, columns, PIECE):
                if start:
                    log.info("augmentation: made of %d of all %d texts", start, len(rows))
                file.write_table(pa.table(_copies(augmentation, texts, columns), schema))

    if made_once(folder, make):
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


def random_of(seed: int, text: str) -> np.random.Generator:
    """A text's own random numbers: what is made of it does not depend on its neighbours."""
    return np.random.default_rng([seed, int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])])


def check_share(option: str, value: float) -> None:
    """Refuse what is no probability."""
    if not 0 <= value <= 1:
        raise UserError(f"data.augmentation.{option}={value}: it is a probability, from 0 to 1")


def check_number(option: str, value: int) -> None:
    """Refuse what is below 1."""
    if value < 1:
        raise UserError(f"data.augmentation.{option}={value}: it must be 1 or more")


@dataclass(kw_only=True)
class WordNoise:
    """Words masked, deleted, or all but a stretch of them dropped, at random.

    Masking and n-gram sampling are those of Tang et al. 2019, "Distilling Task-Specific Knowledge
    from BERT into Simple Neural Networks" (arXiv:1903.12136); their third rule, to replace a word
    by another of its part of speech, needs a tagger and is left out. Deletion is that of Wei and
    Zou 2019, "EDA" (arXiv:1901.11196). Words stand between white space.

    Attributes:
        name: what reports call it.
        copies: texts made of each one (n_iter of Tang et al., who take 20).
        mask: probability of each word to become the mask token (p_mask).
        delete: probability of each word to be left out; one word always stays.
        ngram: probability of a text to be cut to one stretch of its words (p_ng).
        shortest: words of such a stretch, at least;
        longest: and at most; every number between is as likely.
        tokenizer: model whose mask token is taken: the teacher's. A student with another one reads
            it as plain text.
        seed: of all draws.
    """

    name: str
    tokenizer: str
    copies: int = 5
    mask: float = 0.0
    delete: float = 0.0
    ngram: float = 0.0
    shortest: int = 1
    longest: int = 5
    seed: int = 0

    def __post_init__(self):
        for option in ("mask", "delete", "ngram"):
            check_share(option, getattr(self, option))
        for option in ("copies", "shortest"):
            check_number(option, getattr(self, option))
        if self.mask + self.delete > 1:
            raise UserError(
                f"data.augmentation: mask={self.mask} and delete={self.delete} sum to more than 1"
            )
        if self.mask + self.delete + self.ngram == 0:
            raise UserError(
                "data.augmentation changes nothing: raise data.augmentation.mask, delete or ngram"
            )
        if self.longest < self.shortest:
            raise UserError(
                f"data.augmentation.longest={self.longest} is below shortest={self.shortest}"
            )
        if self.seed < 0:
            raise UserError(f"data.augmentation.seed={self.seed}: it must be 0 or above")

    def settings(self) -> dict[str, Any]:
        """See :class:`Augmentation`."""
        plain = {
            key: value for key, value in asdict(self).items() if key not in ("name", "tokenizer")
        }
        return plain | {"kind": "word_noise", "mask_token": self._mask_token()}

    def __call__(self, texts: Sequence[str]) -> list[list[str]]:
        """See :class:`Augmentation`."""
        mask_token = self._mask_token()
        return [self._copies(text, mask_token) for text in texts]

    def _mask_token(self) -> str | None:
        if not self.mask:
            return None
        what = f"data.augmentation.tokenizer={self.tokenizer}"
        path = models.locate(self.tokenizer, "data.augmentation.tokenizer")
        token = models.load_tokenizer(path, what).mask_token
        if token is None:
            raise UserError(f"{what} has no mask token: set data.augmentation.mask=0")
        return token

    def _copies(self, text: str, mask_token: str | None) -> list[str]:
        random, words = random_of(self.seed, text), text.split()
        copies = []
        for _ in range(self.copies):
            draws = random.random(len(words))
            kept = [
                mask_token if draw < self.mask else word
                for word, draw in zip(words, draws, strict=True)
                if draw < self.mask or draw >= self.mask + self.delete
            ] or [words[random.integers(len(words))]]
            if random.random() < self.ngram:
                size = min(int(random.integers(self.shortest, self.longest + 1)), len(kept))
                start = random.integers(len(kept) - size + 1)
                kept = kept[start : start + size]
            copies.append(" ".join(kept))
        return copies
