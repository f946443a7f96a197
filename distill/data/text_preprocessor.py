"""Texts and pairs of texts, encoded by a tokenizer."""

import hashlib
import json
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from distill.data.columns import arrow_column, numeric_column
from distill.data.preprocessor import LENGTH, POSITIONS, Field, Preprocessor
from distill.modeling.inputs import MASK
from distill.modeling.loading import load_tokenizer

# Below this share of truncated training texts, or of unknown tokens, there is no note.
NOTED_SHARE = 0.01


class TextPreprocessor(Preprocessor[PreTrainedTokenizerBase]):
    """Truncates a text or a pair of texts to ``max_length`` tokens.

    Args:
        cache_key: see :class:`~distill.data.preprocessor.Preprocessor`.
    """

    def __init__(self, cache_key: str):
        self._cache_key = cache_key

    @property
    def cache_key(self) -> str:
        """Every setting that changes what :meth:`encode` returns."""
        return self._cache_key

    def load_processor(self, path: str, description: str) -> PreTrainedTokenizerBase:
        """Load the tokenizer saved beside a model."""
        return load_tokenizer(path, description)

    def check_processor(self, processor: PreTrainedTokenizerBase, max_length: int) -> None:
        """Accept every tokenizer."""

    def processor_hash(self, processor: PreTrainedTokenizerBase) -> str:
        """Return a hash of everything that determines what the tokenizer gives a model."""
        return tokenizer_hash(processor)

    def same_inputs(self, first: PreTrainedTokenizerBase, second: PreTrainedTokenizerBase) -> bool:
        """Return whether two tokenizers turn every text into the same ids."""
        return _tokenizer_state(first) == _tokenizer_state(second)

    def encode(
        self, processor: PreTrainedTokenizerBase, rows: Mapping[str, list], max_length: int
    ) -> dict[str, list]:
        """Encode texts or pairs, truncated to ``max_length`` tokens and unpadded."""
        encoded = processor(
            rows["text"],
            rows.get("text_pair"),
            truncation=True,
            max_length=max_length,
            return_attention_mask=False,
        )
        return dict(encoded) | {"label": rows["label"]}

    def cost(self, encoded: Mapping[str, list]) -> list[int]:
        """Return the number of tokens of each example."""
        return [len(ids) for ids in encoded["input_ids"]]

    def fields(self, processor: PreTrainedTokenizerBase) -> tuple[Field, ...]:
        """Declare ids, token types, their mask and the positions that the head reads."""
        if processor.pad_token_id is None:
            processor.pad_token = processor.eos_token
        return (
            Field(MASK, mask_of="input_ids"),
            Field("input_ids", fill=processor.pad_token_id, embedding_ids=True),
            Field("token_type_ids", fill=processor.pad_token_type_id),
            Field(POSITIONS, fill=-1),
        )

    def example_inputs(self, config: PreTrainedConfig, cost: int) -> dict[str, Tensor]:
        """Return ids ``(1, cost)`` without padding, and their mask."""
        # RoBERTa's position ids start after the padding id: the ids must not be padding.
        ids = torch.full((1, cost), 1 if config.pad_token_id == 0 else 0, dtype=torch.long)
        return {"input_ids": ids, MASK: torch.ones_like(ids)}

    def notes(self, encoded: Mapping[str, Dataset], max_length: int) -> list[str]:
        """Return a note if a notable share of the training texts was truncated."""
        share = float(np.mean(numeric_column(encoded["train"], LENGTH) >= max_length))
        if share < NOTED_SHARE:
            return []
        return [
            f"{share:.0%} of the training texts fill data.max_length={max_length} tokens: "
            "what goes beyond is cut."
        ]

    def processor_notes(self, processor: PreTrainedTokenizerBase, train: Dataset) -> list[str]:
        """Return a note if the tokenizer does not know a notable share of the tokens."""
        unknown = processor.unk_token_id
        if unknown is None:
            return []
        special = pa.array([id for id in processor.all_special_ids if id != unknown], pa.int64())
        tokens = unknown_tokens = 0
        for chunk in arrow_column(train, "input_ids").chunks:
            ids = chunk.flatten().cast(pa.int64())
            tokens += len(ids) - (pc.sum(pc.is_in(ids, special)).as_py() or 0)
            unknown_tokens += pc.sum(pc.equal(ids, unknown)).as_py() or 0
        share = unknown_tokens / max(tokens, 1)
        if share < NOTED_SHARE:
            return []
        return [
            f"{share:.0%} of the tokens of the training texts are unknown to the student's "
            f"tokenizer ({processor.unk_token}): what they say is lost. Is the model made for this "
            "language?"
        ]


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a hash of everything that determines what a tokenizer gives a model."""
    parts = [
        type(tokenizer).__name__,
        *_tokenizer_state(tokenizer),
        str(tokenizer.model_input_names),
    ]
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]


def _tokenizer_state(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    state = json.loads(backend.to_str()) if backend is not None else tokenizer.get_vocab()
    # Truncation and padding are those of the last call, not properties of the tokenizer.
    state = {key: value for key, value in state.items() if key not in ("truncation", "padding")}
    content = json.dumps(state, sort_keys=True)
    special = sorted(map(str, tokenizer.special_tokens_map.items()))
    return content, str(special)
