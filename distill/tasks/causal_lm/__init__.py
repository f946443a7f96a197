"""Causal language modeling: every token predicts the next one."""

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import AutoModelForCausalLM, PreTrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from distill.baselines.constant import CommonestToken
from distill.core.errors import UserError
from distill.modeling.head import Head
from distill.tasks.base import Task
from distill.tasks.causal_lm.criterion import CausalLMCriterion
from distill.tasks.causal_lm.evaluator import CausalLMEvaluator
from distill.tasks.causal_lm.preprocessor import NextTokenPreprocessor
from distill.tasks.causal_lm.schema import DOCUMENTS, CausalLMSchema, Documents

__all__ = ["CausalLM"]


class CausalLM(Task):
    """Causal language modeling on plain text, or on the responses to prompts.

    Args:
        metric: ``perplexity``, ``accuracy`` or ``bits_per_byte``: what early stopping, the best
            checkpoint and the report's conclusion go by.
        documents: how rows of plain text become documents, see
            :class:`~distill.tasks.causal_lm.schema.CausalLMSchema`.
        pairs: the columns of prompts, which are read and not predicted, and of responses; ``None``:
            plain text.

    Raises:
        UserError: for a metric or a form of documents that does not exist, or not two columns.
    """

    def __init__(
        self,
        metric: str = "perplexity",
        documents: Documents = "rows",
        pairs: Sequence[str] | None = None,
    ):
        if documents not in DOCUMENTS:
            raise UserError(f"task.documents={documents}: choose one of {', '.join(DOCUMENTS)}")
        if pairs is not None and (isinstance(pairs, str) or len(pairs) != 2):
            raise UserError(
                f"task.pairs={pairs}: name two columns, of prompts and of responses: "
                "task.pairs=[prompt,response]"
            )
        if pairs is not None and documents != "rows":
            raise UserError(
                f"task.documents={documents} joins lines of plain text, task.pairs names columns "
                "of prompts and responses: leave one out"
            )
        name = "causal_lm"
        super().__init__(
            name=name,
            schema=CausalLMSchema(name, documents, pairs),
            preprocessor=NextTokenPreprocessor(f"{name} 1"),
            head=CausalLMHead(),
            criterion=CausalLMCriterion(),
            evaluator=CausalLMEvaluator(metric),
            baselines=(CommonestToken(),),
        )


class CausalLMHead(Head):
    """Logits over the vocabulary at each token, which sees those before it alone."""

    auto_model = AutoModelForCausalLM
    architectures = ("ForCausalLM", "GPT2LMHeadModel")
    reuses_head = True

    def output_size(self, num_labels: int, config: PreTrainedConfig) -> int:
        """Return the size of the model's vocabulary."""
        return int(config.vocab_size)

    def output_order(self, model_names: Mapping[int, str], names: Sequence[str]) -> list[int]:
        """Keep the order: the outputs are the tokenizer's tokens."""
        return []

    def config_settings(self, names: Sequence[str]) -> dict[str, Any]:
        """Return nothing: the names of the outputs are in the tokenizer."""
        return {}

    def check_teacher(self, config: PreTrainedConfig, task_name: str) -> None:
        """Raise a ``UserError`` for what is no decoder."""
        self.check_config(config, task_name)

    def check_config(self, config: PreTrainedConfig, task_name: str) -> None:
        """Raise a ``UserError`` for an encoder, whose tokens see those that they predict."""
        kind = config.model_type
        both_ways = kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES
        if both_ways and not getattr(config, "is_decoder", False):
            raise UserError(
                f"task={task_name}: {kind} is an encoder, in which every token sees those that it "
                "should predict: choose a decoder (GPT-2, Llama, Gemma, ...) or teacher=scratch"
            )
        if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
            raise UserError(
                f"task={task_name}: {kind} has no head that predicts the next token: choose a "
                "decoder (GPT-2, Llama, Gemma, ...) or teacher=scratch"
            )
