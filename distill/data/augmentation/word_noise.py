"""Augmentation by random masking, deletion and n-gram sampling of words."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from distill.core.errors import UserError
from distill.data.augmentation.base import check_positive, check_probability, text_generator
from distill.modeling import loading


@dataclass(kw_only=True)
class WordNoise:
    """Masks or deletes random words, or reduces a text to a random n-gram.

    Masking and n-gram sampling are those of Tang et al. 2019, "Distilling Task-Specific Knowledge
    from BERT into Simple Neural Networks" (arXiv:1903.12136); their third rule, replacing a word by
    another of the same part of speech, needs a tagger and is omitted. Deletion is that of Wei and
    Zou 2019, "EDA" (arXiv:1901.11196). Words are separated by white space.

    Attributes:
        name: name in reports.
        copies: number of new texts per text (n_iter of Tang et al., who take 20).
        mask: probability that a word is replaced by the mask token (p_mask).
        delete: probability that a word is deleted; at least one word remains.
        ngram: probability that a text is reduced to an n-gram (p_ng).
        shortest: minimum number of words of the n-gram.
        longest: maximum number of words; all numbers in between are equally likely.
        tokenizer: model whose mask token is used: the teacher. A student with another mask token
            reads it as text.
        seed: seed of all random numbers.
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

    def __post_init__(self) -> None:
        for option in ("mask", "delete", "ngram"):
            check_probability(option, getattr(self, option))
        for option in ("copies", "shortest"):
            check_positive(option, getattr(self, option))
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
        """Return the settings and the mask token."""
        options = {
            key: value for key, value in asdict(self).items() if key not in ("name", "tokenizer")
        }
        return options | {"kind": "word_noise", "mask_token": self._mask_token()}

    def __call__(self, texts: Sequence[str]) -> list[list[str]]:
        """Return ``copies`` new texts for each text."""
        mask_token = self._mask_token()
        return [self._copies(text, mask_token) for text in texts]

    def _mask_token(self) -> str | None:
        if not self.mask:
            return None
        option = f"data.augmentation.tokenizer={self.tokenizer}"
        path = loading.resolve_model_path(self.tokenizer, "data.augmentation.tokenizer")
        token = loading.load_tokenizer(path, option).mask_token
        if token is None:
            raise UserError(f"{option} has no mask token: set data.augmentation.mask=0")
        return str(token)

    def _copies(self, text: str, mask_token: str | None) -> list[str]:
        random, words = text_generator(self.seed, text), text.split()
        copies = []
        for _ in range(self.copies):
            draws = random.random(len(words))
            kept = [
                mask_token if mask_token is not None and draw < self.mask else word
                for word, draw in zip(words, draws, strict=True)
                if draw < self.mask or draw >= self.mask + self.delete
            ] or [words[random.integers(len(words))]]
            if random.random() < self.ngram:
                size = min(int(random.integers(self.shortest, self.longest + 1)), len(kept))
                start = random.integers(len(kept) - size + 1)
                kept = kept[start : start + size]
            copies.append(" ".join(kept))
        return copies
