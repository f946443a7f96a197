"""A teacher without a pretrained model: architecture and tokenizer from the training texts."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedTokenizerFast

from distill.core.cache import cache_key, get_or_create
from distill.core.errors import UserError
from distill.data.prepare import PreparedData
from distill.tasks.base import Task
from distill.teacher.config import TeacherConfig

log = logging.getLogger(__name__)

BEGIN, END, PADDING = "<|begin|>", "<|end|>", "<|padding|>"
LEAST_WORDS = 256 + 3
"""Size of a vocabulary of all bytes and the special tokens."""
FAMILIES = ("llama", "gpt2")


@dataclass(kw_only=True)
class ScratchConfig(TeacherConfig):
    """A small decoder with random weights, trained like a teacher that lacks a trained head.

    Attributes:
        family: ``llama`` or ``gpt2``.
        vocabulary: number of tokens of a byte-level BPE, trained on the training texts.
        hidden_layers: number of layers.
        hidden_size: width of the layers.
        heads: number of attention heads.
        max_positions: number of positions.
    """

    path: str = ""
    family: str = "llama"
    vocabulary: int = 2048
    hidden_layers: int = 4
    hidden_size: int = 128
    heads: int = 4
    max_positions: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.family not in FAMILIES:
            raise UserError(f"teacher.family={self.family}: choose one of {', '.join(FAMILIES)}")
        if self.vocabulary < LEAST_WORDS:
            raise UserError(
                f"teacher.vocabulary={self.vocabulary}: every byte and three special tokens make "
                f"{LEAST_WORDS}, give as many or more"
            )
        if self.seeds is not None:
            raise UserError("teacher.seeds: several teachers need a model each, teacher=ensemble")
        for key in ("hidden_layers", "heads", "max_positions"):
            if getattr(self, key) < 1:
                raise UserError(f"teacher.{key}={getattr(self, key)}: it must be 1 or more")
        if self.hidden_size < 2 * self.heads or self.hidden_size % (2 * self.heads):
            raise UserError(
                f"teacher.hidden_size={self.hidden_size}: it must be a multiple of twice "
                f"teacher.heads={self.heads}"
            )

    @property
    def name(self) -> str:
        """Name in reports."""
        return "scratch"

    def create(self, task: Task, data: PreparedData, cache_dir: Path) -> "ScratchConfig":
        """Return the configuration with the path of an untrained model and its tokenizer.

        Raises:
            UserError: for a task other than causal language modeling.
        """
        if "ForCausalLM" not in task.head.architectures:
            raise UserError(
                f"teacher=scratch is a decoder for task=causal_lm: task={task.name} needs a "
                "pretrained teacher"
            )
        shape = {
            key: getattr(self, key)
            for key in (
                "family", "vocabulary", "hidden_layers", "hidden_size", "heads", "max_positions",
                "seed",
            )
        }  # fmt: skip
        key = cache_key(kind="scratch", format=1, data=data.hashes["train"], **shape)
        folder = cache_dir / "scratch" / key
        get_or_create(folder, lambda partial: self._write(partial, data))
        return replace(self, path=str(folder))

    def _write(self, folder: Path, data: PreparedData) -> None:
        log.info("teacher: training a tokenizer of %d tokens", self.vocabulary)
        rows = data.splits["train"]
        texts = (text for role in sorted(rows.column_names) for text in rows[role][:])
        tokenizer = byte_level_tokenizer(texts, self.vocabulary)
        tokenizer.save_pretrained(folder)
        torch.manual_seed(self.seed)
        # The base model: without a head it counts as not trained for the task.
        AutoModel.from_config(self._model_config(tokenizer)).save_pretrained(folder)

    def _model_config(self, tokenizer: PreTrainedTokenizerFast) -> PreTrainedConfig:
        ids = {
            "vocab_size": len(tokenizer),
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "tie_word_embeddings": True,
        }
        if self.family == "gpt2":
            return AutoConfig.for_model(
                "gpt2", n_embd=self.hidden_size, n_layer=self.hidden_layers, n_head=self.heads,
                n_positions=self.max_positions, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
                **ids,
            )  # fmt: skip
        return AutoConfig.for_model(
            "llama", hidden_size=self.hidden_size, num_hidden_layers=self.hidden_layers,
            num_attention_heads=self.heads, num_key_value_heads=self.heads,
            # Three matrices instead of two: as many weights as four times the width.
            intermediate_size=8 * self.hidden_size // 3,
            max_position_embeddings=self.max_positions, **ids,
        )  # fmt: skip


def byte_level_tokenizer(texts: Iterable[str], size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE (Radford et al. 2019, section 2.2), which knows every text.

    Args:
        texts: an iterable of strings.
        size: maximum number of tokens, special ones among them.
    """
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=[PADDING, BEGIN, END], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    backend.train_from_iterator(texts, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=[(BEGIN, backend.token_to_id(BEGIN))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PADDING,
        bos_token=BEGIN,
        eos_token=END,
        clean_up_tokenization_spaces=False,
    )
