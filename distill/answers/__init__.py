"""How records become model inputs and logits become answers, without torch.

A task says which :class:`~distill.answers.base.AnswerReader` reads it; an exported model carries
the reader's settings in its ``export.json``.
"""

from collections.abc import Mapping
from typing import Any

from distill.answers.base import AnswerReader
from distill.answers.classes import ClassReader, LabelsReader, NumberReader
from distill.answers.masked import MaskedReader
from distill.answers.spans import SpanReader
from distill.answers.words import WordsReader

READERS: dict[str, type[AnswerReader]] = {
    reader.kind: reader
    for reader in (
        ClassReader, LabelsReader, NumberReader, WordsReader, SpanReader, MaskedReader,
    )
}  # fmt: skip


def reader_from_settings(settings: Mapping[str, Any]) -> AnswerReader:
    """Return the reader that :attr:`AnswerReader.settings` describe.

    Raises:
        KeyError: for a kind of a later version.
    """
    values = dict(settings)
    return READERS[values.pop("kind")](**values)
