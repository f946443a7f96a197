"""What every way of making a student gives."""

from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Student:
    """A student before its training.

    Attributes:
        name: what reports call it.
        model: with its first weights.
        tokenizer: its own, or the teacher's.
        origin: where the first weights come from, in words for the report and the model card.
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    origin: str
