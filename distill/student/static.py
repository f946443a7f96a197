"""A mean of static embeddings as the student."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from transformers import PreTrainedConfig

from distill.core.errors import UserError
from distill.modeling.architectures.static import StaticConfig
from distill.modeling.shape import ModelShape
from distill.student import embedding_tables, vocabulary
from distill.student.base import (
    Student,
    StudentArchitecture,
    StudentContext,
    StudentFactory,
)
from distill.student.bilstm import pair_settings
from distill.student.token_statistics import token_counts

# Parameter a of smooth inverse frequency (Arora et al. 2017, section 3 recommends 1e-3 to 1e-4).
SMOOTHING = 1e-3
# Width of model2vec's published embeddings.
DEFAULT_WIDTH = 256


@dataclass(kw_only=True)
class StaticFactory(StudentFactory):
    """Mean of static embeddings and a small head (model2vec, Tulkens and van Dongen 2024).

    The fastest student: it looks up and averages embeddings, and ignores the order of words.

    Attributes:
        name: name in reports.
        hidden_size: width of the embeddings; ``None``: 256, or the teacher's if smaller.
        head_size: width of the head's hidden layer; 0 for a linear head.
        start: initial embeddings: ``outputs`` (the teacher's last hidden state of each single
            token) or ``embeddings`` of the teacher, reduced to the width, or ``random``.
        weighting: ``frequency`` multiplies the initial embedding of each token by
            ``a / (a + p(token))``, p its relative frequency in the training texts (Arora et al.
            2017, equation 3), so that frequent words do not dominate the mean; ``none`` does not.
        vocabulary: ``full``, ``corpus`` (the tokens of the training texts) or the number of their
            most frequent tokens to keep; see :func:`~distill.student.vocabulary.trim_tokenizer`.
        dropout: probability of dropout on the mean and in the head.
    """

    name: str
    hidden_size: int | None = None
    head_size: int = 256
    start: embedding_tables.Start = "outputs"
    weighting: Literal["frequency", "none"] = "frequency"
    vocabulary: Literal["full", "corpus"] | int = "full"
    dropout: float = 0.1
    supports_tokens: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.hidden_size is not None and self.hidden_size < 1:
            raise UserError(f"student.hidden_size={self.hidden_size}: it must be 1 or more")
        if self.head_size < 0:
            raise UserError(f"student.head_size={self.head_size}: 1 or more, or 0 for a linear one")
        if self.weighting not in ("frequency", "none"):
            raise UserError(f"student.weighting={self.weighting}: choose frequency or none")
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
            self.start, self.hidden_size, DEFAULT_WIDTH, teacher_config, "hidden_size"
        )

    def architecture(self, teacher_config: PreTrainedConfig) -> StudentArchitecture:
        """Return the architecture; the vocabulary is the teacher's or a part of it."""
        return StudentArchitecture(
            ModelShape(0, self.embedding_width(teacher_config), 0),
            trims_vocabulary=self.vocabulary not in (None, "full"),
        )

    def build(self, context: StudentContext) -> Student:
        """Return the student with its initial weights."""
        teacher, task, data = context.teacher, context.task, context.data
        tokenizer, kept = vocabulary.trim_tokenizer(teacher.processor, self.vocabulary, data)
        width = self.embedding_width(teacher.pretrained_model.config)
        special_ids = tokenizer("", return_attention_mask=False)["input_ids"]
        config = StaticConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            head_size=self.head_size,
            skipped_ids=sorted(set(special_ids)),
            dropout=self.dropout,
            pad_token_id=tokenizer.pad_token_id,
            **pair_settings(data, tokenizer),
            **context.head_settings(),
        )
        model = task.head.build(config)
        weight = embedding_tables.embedding_weight(model)
        table = embedding_tables.initial_table(self.start, teacher, width, context.cache_dir)
        with torch.no_grad():
            if table is not None:
                weight.copy_(table[kept])
            if self.weighting == "frequency":
                counts = torch.from_numpy(token_counts(data, tokenizer)).float()
                frequencies = counts / counts.sum().clamp(min=1)
                weight.mul_((SMOOTHING / (SMOOTHING + frequencies))[:, None])
        origin = "random weights" if table is None else f"the teacher's {self.start} of each token"
        return Student(self.name, model, tokenizer, origin, new_head=True)
