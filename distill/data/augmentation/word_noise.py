"""distill.data.augmentation.word_noise"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from distill.core.errors import UserError
from distill.data.augmentation.base import check_positive, check_probability, text_generator
from distill.modeling import loading


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
        path = loading.resolve_model_path(self.tokenizer, "data.augmentation.tokenizer")
        token = loading.load_tokenizer(path, what).mask_token
        if token is None:
            raise UserError(f"{what} has no mask token: set data.augmentation.mask=0")
        return token

    def _copies(self, text: str, mask_token: str | None) -> list[str]:
        random, words = text_generator(self.seed, text), text.split()
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
