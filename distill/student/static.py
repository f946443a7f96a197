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

# Of smooth inverse frequency (Arora et al. 2017, section 3), which found 1e-3 to 1e-4 good.
SMOOTHING = 1e-3
# Of model2vec's published embeddings.
USUAL_WIDTH = 256


@dataclass(kw_only=True)
class StaticFactory(StudentFactory):
    """Mean of static embeddings and a small head (model2vec, Tulkens and van Dongen 2024).

    The fastest student there is: it looks up and adds, and sees nothing of the order of words.

    Attributes:
        name: what reports call it.
        hidden_size: width of the embeddings; ``None``: 256, or the teacher's if less.
        head_size: width of the head's hidden layer; 0 for a linear head.
        start: where the embeddings start from: ``outputs`` (what the teacher makes of each token
            alone) or its ``embeddings``, reduced to the width, or ``random``.
        weighting: ``frequency`` multiplies each token's first embedding with
            ``a / (a + p(token))``, p its share of the training tokens (Arora et al. 2017, equation
            3), so that frequent words do not drown the others; ``none`` leaves them equal.
        vocabulary: ``full``, ``corpus`` (the tokens of the training texts) or how many of their
            most frequent tokens, and what any text needs; see :func:`vocabulary.smaller`.
        dropout: on the mean and in the head.
    """

    name: str
    hidden_size: int | None = None
    head_size: int = 256
    start: embedding_tables.Start = "outputs"
    weighting: Literal["frequency", "none"] = "frequency"
    vocabulary: Literal["full", "corpus"] | int = "full"
    dropout: float = 0.1
    supports_tokens: ClassVar[bool] = False

    def __post_init__(self):
        if self.hidden_size is not None and self.hidden_size < 1:
            raise UserError(f"student.hidden_size={self.hidden_size}: it must be 1 or more")
        if self.head_size < 0:
            raise UserError(f"student.head_size={self.head_size}: 1 or more, or 0 for a linear one")
        if self.weighting not in ("frequency", "none"):
            raise UserError(f"student.weighting={self.weighting}: choose frequency or none")
        if not 0 <= self.dropout < 1:
            raise UserError(f"student.dropout={self.dropout}: it is a share, from 0 to below 1")
        embedding_tables.check_start(self.start)
        vocabulary.check_vocabulary(self.vocabulary)

    def check(self, teacher_config: PreTrainedConfig) -> None:
        """Refuse embeddings wider than those they start from, before anything is trained."""
        self.width(teacher_config)

    def width(self, teacher_config) -> int:
        """Of the embeddings, given the teacher's."""
        return embedding_tables.embedding_width(
            self.start, self.hidden_size, USUAL_WIDTH, teacher_config, "hidden_size"
        )

    def architecture(self, teacher_config: PreTrainedConfig) -> StudentArchitecture:
        """Return the shape; the vocabulary is the teacher's or a part of it."""
        return StudentArchitecture(
            ModelShape(0, self.width(teacher_config), 0),
            trims_vocabulary=self.vocabulary not in (None, "full"),
        )

    def build(self, context: StudentContext) -> Student:
        """Return the student with its initial weights."""
        teacher, task, data = context.teacher, context.task, context.data
        tokenizer, kept = vocabulary.trim_tokenizer(teacher.processor, self.vocabulary, data)
        width = self.width(teacher.model.config)
        around = tokenizer("", return_attention_mask=False)["input_ids"]
        config = StaticConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            head_size=self.head_size,
            skipped_ids=sorted(set(around)),
            dropout=self.dropout,
            pad_token_id=tokenizer.pad_token_id,
            **pair_settings(data, tokenizer),
            **context.head_settings(),
        )
        model = task.head.build(config)
        weight = model.get_input_embeddings().weight
        table = embedding_tables.initial_table(self.start, teacher, width, context.cache_dir)
        with torch.no_grad():
            if table is not None:
                weight.copy_(table[kept])
            if self.weighting == "frequency":
                counts = torch.from_numpy(token_counts(data, tokenizer)).float()
                shares = counts / counts.sum().clamp(min=1)
                weight.mul_((SMOOTHING / (SMOOTHING + shares))[:, None])
        origin = "random weights" if table is None else f"the teacher's {self.start} of each token"
        return Student(self.name, model, tokenizer, origin)
