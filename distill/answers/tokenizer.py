"""Token ids of texts by the ``tokenizers`` library, as transformers' tokenizers make them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import Encoding, Tokenizer


@dataclass(frozen=True)
class TokenizerSettings:
    """What a model's tokenizer does beside what ``tokenizer.json`` says; plain values.

    Attributes:
        max_length: maximum number of tokens of an example.
        inputs: names of the inputs that the model takes, of ``input_ids``, ``attention_mask`` and
            ``token_type_ids``.
        pad_id: token id that padding has.
        pad_type_id: token type that padding has.
        cls_id: id of the token that stands before a text; ``None``: there is none.
        mask_id: id of the mask token; ``None``: there is none.
        truncation_side: where a text that is too long is cut, ``right`` or ``left``.
        leading_space: whether single words are encoded with a space before them (RoBERTa's).
    """

    max_length: int
    inputs: Sequence[str]
    pad_id: int = 0
    pad_type_id: int = 0
    cls_id: int | None = None
    mask_id: int | None = None
    truncation_side: str = "right"
    leading_space: bool = False
    special_ids: Sequence[int] = field(default=())


class TextTokenizer:
    """Encodes texts, words, and questions with their contexts.

    Args:
        backend: content of a ``tokenizer.json``.
        settings: the rest.
    """

    def __init__(self, backend: str, settings: TokenizerSettings):
        self.backend, self.settings = backend, settings
        self._whole = self._make()
        self._cut = self._make()
        self._cut.enable_truncation(settings.max_length, direction=settings.truncation_side)

    @classmethod
    def from_file(cls, file: Path, settings: TokenizerSettings) -> "TextTokenizer":
        """Read a ``tokenizer.json``."""
        return cls(file.read_text(encoding="utf-8"), settings)

    def _make(self) -> Tokenizer:
        tokenizer = Tokenizer.from_str(self.backend)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    def texts(self, texts: Sequence[str | tuple[str, str]]) -> list[Encoding]:
        """Encode texts or pairs, truncated to the maximum length."""
        encodings: list[Encoding] = self._cut.encode_batch(list(texts))
        return encodings

    def words(self, words: Sequence[str]) -> Encoding:
        """Encode a sentence that is a list of words, truncated to the maximum length."""
        space = " " if self.settings.leading_space else ""
        spaced = [word if not index else space + word for index, word in enumerate(words)]
        return self._cut.encode(spaced, is_pretokenized=True)

    def windows(self, question: str, context: str, stride: int | None) -> list[Encoding]:
        """Encode a question with its context as overlapping windows.

        A question of more than half of a window is truncated.

        Args:
            question: the question.
            context: the text that the answer stands in.
            stride: number of context tokens that neighboring windows share; ``None``: a quarter of
                what a window holds.
        """
        room = self.settings.max_length - self._whole.num_special_tokens_to_add(True)
        tokenizer = self._windows
        tokenizer.enable_truncation(
            self.settings.max_length,
            stride=room // 4 if stride is None else stride,
            strategy="only_second",
            direction=self.settings.truncation_side,
        )
        first = tokenizer.encode(self.truncate(question, room // 2), context)
        return [first, *first.overflowing]

    @property
    def _windows(self) -> Tokenizer:
        if not hasattr(self, "_windows_tokenizer"):
            self._windows_tokenizer = self._make()
        return self._windows_tokenizer

    def truncate(self, text: str, tokens: int) -> str:
        """Return the beginning of a text, of so many tokens at most."""
        encoding = self._whole.encode(text, add_special_tokens=False)
        kept = tokens
        result = text
        # A word cut in two may have more tokens than before: go back to where one ends.
        while kept and len(self._whole.encode(result, add_special_tokens=False).ids) > tokens:
            result = text[: encoding.offsets[kept - 1][1]]
            kept -= 1
        return result

    def token(self, token_id: int) -> str:
        """Return the text of a token, without the marks of a piece of a word."""
        token: str = self._whole.decode([token_id], skip_special_tokens=False)
        return token.strip() or str(self._whole.id_to_token(token_id))


def window_inputs(encoding: Encoding) -> dict[str, Any]:
    """Return ids and token types of an encoding."""
    return {"ids": encoding.ids, "type_ids": encoding.type_ids}
