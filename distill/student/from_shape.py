"""A student of a given shape, such as one of BERT's published miniatures."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from transformers import BertConfig, PreTrainedConfig

from distill.core.errors import UserError
from distill.modeling import loading
from distill.modeling.head import Head
from distill.modeling.shape import ModelShape
from distill.student.base import (
    Student,
    StudentArchitecture,
    StudentContext,
    StudentFactory,
)

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class ShapeFactory(StudentFactory):
    """A BERT of a given shape (Turc et al. 2019, "Well-Read Students Learn Better", table 1).

    Attributes:
        name: name in reports.
        hidden_layers: number of transformer layers.
        hidden_size: width of the layers; heads are 64 wide, feed-forward layers four times as wide.
        weights: ``random``: random weights and the teacher's tokenizer; ``published``: the
            pretrained miniature of that shape from the hub, with its own tokenizer. Pretraining
            improves a student far more than any objective.
    """

    name: str
    hidden_layers: int
    hidden_size: int
    weights: Literal["random", "published"] = "random"

    supported_heads: ClassVar[tuple[str, ...] | None] = (
        "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering",
        "ForMaskedLM",
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.weights not in ("random", "published"):
            raise UserError(f"student.weights={self.weights}: choose random or published")
        if self.hidden_layers < 1 or self.hidden_size < 64 or self.hidden_size % 64:
            raise UserError(
                f"student.hidden_layers={self.hidden_layers}, "
                f"student.hidden_size={self.hidden_size}: at least 1 layer, the width a multiple "
                "of 64"
            )

    @property
    def published_id(self) -> str:
        """Hub id of the pretrained miniature."""
        heads = self.hidden_size // 64
        return f"google/bert_uncased_L-{self.hidden_layers}_H-{self.hidden_size}_A-{heads}"

    def check(self, teacher_config: PreTrainedConfig) -> None:
        """Raise a ``UserError`` if the published weights are not available."""
        if self.weights == "published":
            loading.load_config(self.published_id, f"the published {self.published_id}")

    def check_weights(self, head: Head, label_names: Sequence[str]) -> None:
        """Raise a ``UserError`` if the published weights cannot be loaded."""
        if self.weights == "published":
            head.start(self.published_id, label_names)

    def architecture(self, teacher_config: PreTrainedConfig) -> StudentArchitecture:
        """Return the architecture; published weights come with their own tokenizer."""
        shape = ModelShape(self.hidden_layers, self.hidden_size, self.hidden_size // 64)
        return StudentArchitecture(
            shape, self.published_id if self.weights == "published" else None
        )

    def build(self, context: StudentContext) -> Student:
        """Return the student with its initial weights."""
        teacher, task = context.teacher, context.task
        if self.weights == "published":
            description = f"the published {self.published_id}"
            tokenizer = task.preprocessor.load_processor(self.published_id, description)
            model, new_head = task.head.start(self.published_id, context.label_names)
            return Student(self.name, model, tokenizer, description, new_head)
        tokenizer = teacher.processor
        config = BertConfig(
            # The head of a language model has as many outputs as the teacher's.
            vocab_size=max(
                len(tokenizer), task.head.output_size(0, teacher.pretrained_model.config)
            ),
            num_hidden_layers=self.hidden_layers,
            hidden_size=self.hidden_size,
            num_attention_heads=self.hidden_size // 64,
            intermediate_size=4 * self.hidden_size,
            pad_token_id=tokenizer.pad_token_id,
            **context.head_settings(),
        )
        log.info(
            "student: starts from random weights (student.weights=published starts from %s)",
            self.published_id,
        )
        return Student(self.name, task.head.build(config), tokenizer, "random weights", True)
