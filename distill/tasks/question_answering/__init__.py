"""The answer to a question as a span of a context (SQuAD v1.1 and v2), read in windows."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import AutoModelForQuestionAnswering

from distill.answers.spans import SpanReader
from distill.baselines.constant import NoAnswer
from distill.core.errors import UserError
from distill.modeling.head import Head
from distill.tasks.base import Task
from distill.tasks.question_answering.criterion import SpanCriterion
from distill.tasks.question_answering.evaluator import AnswerConfig, SpanEvaluator
from distill.tasks.question_answering.preprocessor import WindowPreprocessor
from distill.tasks.question_answering.schema import OUTPUTS, AnswerSchema

__all__ = ["QuestionAnswering"]


class QuestionAnswering(Task):
    """Extractive question answering: where in its context the answer starts and ends.

    A context that is too long is read in overlapping windows, each with the whole question. The
    positions with logits are a window's first token (BERT's ``[CLS]``), which stands for "no
    answer here" (Devlin et al. 2019, section 4.3), and the tokens of the context; start and end are
    a choice of one position each. Windows without the answer are trained to choose the first
    token, including those of questions that have one: their scores are then lower where windows are
    compared.

    Args:
        metric: ``f1`` or ``exact_match``: what early stopping, the best checkpoint and the report's
            conclusion go by.
        stride: number of context tokens that neighboring windows share; ``None``: a quarter of what
            a window holds. A span no longer than that lies whole in some window.
        max_answer_length: maximum number of tokens of a predicted span.
        no_answer_threshold: a model gives no answer where its score for no answer exceeds that of
            the best span by more than this; in data with unanswerable questions only.

    Raises:
        UserError: for a metric that does not exist, or a setting out of range.
    """

    preprocessor: WindowPreprocessor
    evaluator: SpanEvaluator

    def __init__(
        self,
        metric: str = "f1",
        stride: int | None = None,
        max_answer_length: int = 30,
        no_answer_threshold: float = 0.0,
    ):
        evaluator = SpanEvaluator(metric, AnswerConfig(max_answer_length, no_answer_threshold))
        if stride is not None and stride < 0:
            raise UserError(f"task.stride={stride}: it must be 0 or above")
        if max_answer_length < 1:
            raise UserError(f"task.max_answer_length={max_answer_length}: it must be 1 or more")
        if not math.isfinite(no_answer_threshold):
            raise UserError(f"task.no_answer_threshold={no_answer_threshold}: it must be a number")
        name = "question_answering"
        super().__init__(
            name=name,
            schema=AnswerSchema(name, no_answer_threshold),
            preprocessor=WindowPreprocessor(f"{name} 1, stride {stride}", stride),
            head=SpanHead(),
            criterion=SpanCriterion(),
            evaluator=evaluator,
            baselines=(NoAnswer(),),
        )

    def answer_reader(
        self, names: Sequence[str], columns: Mapping[str, Sequence[str]], **settings: Any
    ) -> SpanReader:
        """Return the reader of spans, chosen as in evaluation."""
        return SpanReader(
            self.preprocessor.stride, self.evaluator.config.max_answer_length,
            self.evaluator.config.no_answer_threshold, columns=columns, **settings,
        )  # fmt: skip


class SpanHead(Head):
    """A linear layer over each token with a start and an end logit."""

    auto_model = AutoModelForQuestionAnswering
    architectures = ("ForQuestionAnswering",)

    def output_order(
        self, model_names: Mapping[int, str], names: Sequence[str]
    ) -> list[int] | None:
        """Return start and end in this order, unless the head's own names say otherwise."""
        indices = {str(name).lower(): int(index) for index, name in model_names.items()}
        if set(indices) == set(OUTPUTS):
            return [indices[name] for name in OUTPUTS]
        return [0, 1] if set(indices) == {"label_0", "label_1"} else None
