"""One label for each word of a sentence: named entities, parts of speech."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn
from transformers import AutoModelForTokenClassification

from distill.answers.words import WordsReader
from distill.baselines.constant import LargestClass
from distill.baselines.words import TagWords
from distill.modeling.head import Head
from distill.tasks import class_labels
from distill.tasks.base import Task
from distill.tasks.sequence_classification import CrossEntropyCriterion
from distill.tasks.token_classification.evaluator import TokenClassificationEvaluator
from distill.tasks.token_classification.preprocessor import WordPreprocessor
from distill.tasks.token_classification.schema import TagSchema

__all__ = ["TokenClassification"]


class TokenClassification(Task):
    """Token classification: a label for each word, predicted at the first of its tokens.

    Special tokens, padding and a word's further tokens have no logits. A word that the model does
    not read, beyond ``data.max_length`` or without any token, has none either: it counts as
    predicted ``O``, or as wrong where there is no such tag. White space that stands as a word
    (character data sets have it) belongs to no entity and is left out.

    Where tags mark entities (B-, I-, ... and O; see :mod:`distill.metrics.entities`) precision,
    recall and F1 are those of whole entities over all types, as the script `conlleval` and the
    library seqeval count them; other tags, such as parts of speech, are classes of words.

    Args:
        metric: ``f1``, ``accuracy`` or ``macro_f1``: what early stopping, the best checkpoint and
            the report's conclusion go by; ``None``: ``f1`` of entities, or else ``accuracy``.
            ``accuracy`` and ``macro_f1`` also accept tags that are no proper scheme.
        per_class: whether to report precision, recall and F1 of every entity type, or class.

    Raises:
        UserError: for a metric that does not exist.
    """

    schema: TagSchema

    def __init__(self, metric: str | None = None, per_class: bool = False):
        name = "token_classification"
        schema = TagSchema(name, metric)
        super().__init__(
            name=name,
            schema=schema,
            preprocessor=WordPreprocessor(f"{name} 1", schema),
            head=TokenClassificationHead(),
            criterion=CrossEntropyCriterion(),
            evaluator=TokenClassificationEvaluator(schema, per_class),
            baselines=(LargestClass(), TagWords()),
        )

    def answer_reader(
        self, names: Sequence[str], columns: Mapping[str, Sequence[str]], **settings: Any
    ) -> WordsReader:
        """Return the reader of words and entities."""
        return WordsReader(names, self.schema.scheme is not None, columns=columns, **settings)


class TokenClassificationHead(Head):
    """A linear layer over each token, one output per tag."""

    auto_model = AutoModelForTokenClassification
    architectures = ("ForTokenClassification",)

    def output_order(
        self, model_names: Mapping[int, str], names: Sequence[str]
    ) -> list[int] | None:
        """Match the tags by name."""
        return class_labels.head_order(model_names, names)

    def initialize(self, output: nn.Linear, labels: np.ndarray) -> None:
        """Set the bias to the log of each tag's share of the words."""
        class_labels.start_at_log_prior(output, labels)
