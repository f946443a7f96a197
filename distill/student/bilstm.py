"""A bidirectional LSTM as the student."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from distill.core.errors import UserError
from distill.data.prepare import PreparedData
from distill.modeling.architectures.bilstm import BiLstmConfig
from distill.modeling.shape import ModelShape
from distill.student import embedding_tables, vocabulary
from distill.student.base import (
    Student,
    StudentArchitecture,
    StudentContext,
    StudentFactory,
)
from distill.student.token_statistics import has_pairs

# Width of the word vectors in the paper.
DEFAULT_WIDTH = 300


@dataclass(kw_only=True)
class BiLSTMFactory(StudentFactory):
    """A BiLSTM over the teacher's tokens (Tang et al. 2019, "Distilling Task-Specific Knowledge").

    Attributes:
        name: name in reports.
        embedding_size: width of the word embeddings; ``None``: 300, or the teacher's if smaller.
        hidden_size: width of each layer's output, half of it from each direction.
        hidden_layers: number of LSTM layers.
        head_size: width of the head's hidden layer.
        pooling: ``max`` or ``mean`` over the tokens.
        start: initial word embeddings: ``embeddings`` or ``outputs`` of the teacher, reduced to the
            width, or ``random``.
        vocabulary: ``full``, ``corpus`` (the tokens of the training texts) or the number of their
            most frequent tokens to keep; see :func:`~distill.student.vocabulary.trim_tokenizer`.
        dropout: probability of dropout on embeddings, between layers and in the head.
    """

    name: str
    embedding_size: int | None = None
    hidden_size: int = 300
    hidden_layers: int = 1
    head_size: int = 200
    pooling: Literal["max", "mean"] = "max"
    start: embedding_tables.Start = "embeddings"
    vocabulary: Literal["full", "corpus"] | int = "full"
    dropout: float = 0.1
    supports_tokens: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for option in ("embedding_size", "hidden_size", "hidden_layers", "head_size"):
            value = getattr(self, option)
            if value is not None and value < 1:
                raise UserError(f"student.{option}={value}: it must be 1 or more")
        if self.hidden_size % 2:
            raise UserError(
                f"student.hidden_size={self.hidden_size}: it must be even, half of it for each "
                "direction"
            )
        if self.pooling not in ("max", "mean"):
            raise UserError(f"student.pooling={self.pooling}: choose max or mean")
        if not 0 <= self.dropout < 1:
            raise UserError(f"student.dropout={self.dropout}: it is a probability below 1")
        embedding_tables.check_start(self.start)
        vocabulary.check_vocabulary(self.vocabulary)

    def check(self, teacher_config: PreTrainedConfig) -> None:
        """Raise a ``UserError`` for embeddings wider than those that they start from."""
        self.embedding_width(teacher_config)

    def embedding_width(self, teacher_config: PreTrainedConfig) -> int:
        """Return the width of the embeddings."""
        return embedding_tables.embedding_width(
            self.start, self.embedding_size, DEFAULT_WIDTH, teacher_config, "embedding_size"
        )

    def architecture(self, teacher_config: PreTrainedConfig) -> StudentArchitecture:
        """Return the architecture; the vocabulary is the teacher's or a part of it."""
        return StudentArchitecture(
            ModelShape(self.hidden_layers, self.hidden_size, 0),
            trims_vocabulary=self.vocabulary not in (None, "full"),
        )

    def build(self, context: StudentContext) -> Student:
        """Return the student with its initial weights."""
        teacher, task, data = context.teacher, context.task, context.data
        tokenizer, kept = vocabulary.trim_tokenizer(teacher.processor, self.vocabulary, data)
        width = self.embedding_width(teacher.pretrained_model.config)
        config = BiLstmConfig(
            vocab_size=len(tokenizer),
            embedding_size=width,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.hidden_layers,
            head_size=self.head_size,
            pooling=self.pooling,
            dropout=self.dropout,
            pad_token_id=tokenizer.pad_token_id,
            **pair_settings(data, tokenizer),
            **context.head_settings(),
        )
        model = task.head.build(config)
        table = embedding_tables.initial_table(self.start, teacher, width, context.cache_dir)
        if table is not None:
            with torch.no_grad():
                embedding_tables.embedding_weight(model).copy_(table[kept])
        origin = "random weights" if table is None else f"the teacher's {self.start} of each token"
        return Student(self.name, model, tokenizer, origin, new_head=True)


def pair_settings(data: PreparedData, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Return what the configuration of a small network says about pairs of texts.

    Raises:
        UserError: if the data are pairs and the tokenizer has no separator.
    """
    if not has_pairs(data):
        return {}
    if tokenizer.sep_token_id is None:
        raise UserError(
            "the data are pairs and the teacher's tokenizer puts no separator between their texts: "
            "choose a student that is a transformer"
        )
    return {"pairs": True, "separator_id": tokenizer.sep_token_id}
