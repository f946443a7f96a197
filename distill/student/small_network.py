"""What the factories of small networks over token embeddings share."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from distill.core.errors import UserError
from distill.data.prepare import PreparedData
from distill.modeling.architectures.small_network import POOLINGS, SmallNetworkConfig
from distill.modeling.shape import model_shape
from distill.student import embedding_tables, vocabulary
from distill.student.base import Student, StudentArchitecture, StudentContext, StudentFactory
from distill.student.token_statistics import has_pairs, token_counts

# Parameter a of smooth inverse frequency (Arora et al. 2017, section 3 recommends 1e-3 to 1e-4).
SMOOTHING = 1e-3

Pooling = Literal["mean", "max", "mean_max"]


@dataclass(kw_only=True)
class SmallNetworkFactory(StudentFactory):
    """Base of the factories of small networks: embeddings from the teacher, pooling, a head.

    Attributes:
        name: name in reports.
        head_size: width of the head's hidden layer; 0 for a linear head.
        pooling: ``mean`` or ``max`` over the tokens, or ``mean_max``, both side by side.
        start: initial embeddings: ``outputs`` (the teacher's last hidden state of each single
            token) or ``embeddings`` of the teacher, reduced to the width, or ``random``.
        weighting: ``frequency`` multiplies the initial embedding of each token by
            ``a / (a + p(token))``, p its relative frequency in the training texts (Arora et al.
            2017, equation 3), so that frequent words do not dominate; ``none`` does not.
        vocabulary: ``full``, ``corpus`` (the tokens of the training texts) or the number of their
            most frequent tokens to keep; see :func:`~distill.student.vocabulary.trim_tokenizer`.
        dropout: probability of dropout on the pooled features and in the head.
        word_dropout: probability with which a token is left out in training.
        max_length: maximum number of tokens that it reads, more than the teacher if wanted;
            ``None``: ``data.max_length``.
    """

    name: str
    head_size: int = 256
    pooling: Pooling = "mean"
    start: embedding_tables.Start = "outputs"
    weighting: Literal["frequency", "none"] = "frequency"
    vocabulary: Literal["full", "corpus"] | int = "full"
    dropout: float = 0.1
    word_dropout: float = 0.0
    max_length: int | None = None

    # Name of the option with the width of the embeddings, and its value where it is null.
    width_option: ClassVar[str]
    default_width: ClassVar[int]

    def __post_init__(self) -> None:
        if self.head_size < 0:
            raise UserError(f"student.head_size={self.head_size}: 1 or more, or 0 for a linear one")
        if self.pooling not in POOLINGS:
            raise UserError(f"student.pooling={self.pooling}: choose {' or '.join(POOLINGS)}")
        if self.weighting not in ("frequency", "none"):
            raise UserError(f"student.weighting={self.weighting}: choose frequency or none")
        for option in ("dropout", "word_dropout"):
            if not 0 <= getattr(self, option) < 1:
                raise UserError(
                    f"student.{option}={getattr(self, option)}: it is a probability below 1"
                )
        embedding_tables.check_start(self.start)
        vocabulary.check_vocabulary(self.vocabulary)
        check_positive(self, self.width_option, "max_length")

    @abstractmethod
    def network_config(self, width: int, settings: Mapping[str, Any]) -> SmallNetworkConfig:
        """Return the network's configuration.

        Args:
            width: width of the embeddings.
            settings: what all networks share: vocabulary, pooling, head, outputs.
        """

    def check(self, teacher_config: PreTrainedConfig) -> None:
        """Raise a ``UserError`` for embeddings wider than those that they start from."""
        self.embedding_width(teacher_config)

    def embedding_width(self, teacher_config: PreTrainedConfig) -> int:
        """Return the width of the embeddings."""
        return embedding_tables.embedding_width(
            self.start, getattr(self, self.width_option), self.default_width, teacher_config,
            self.width_option,
        )  # fmt: skip

    def architecture(self, teacher_config: PreTrainedConfig) -> StudentArchitecture:
        """Return the architecture; the vocabulary is the teacher's or a part of it."""
        config = self.network_config(self.embedding_width(teacher_config), {})
        return StudentArchitecture(
            model_shape(config), trims_vocabulary=self.vocabulary not in (None, "full")
        )

    def build(self, context: StudentContext) -> Student:
        """Return the student with its initial weights."""
        teacher, task, data = context.teacher, context.task, context.data
        tokenizer, kept = vocabulary.trim_tokenizer(teacher.processor, self.vocabulary, data)
        width = self.embedding_width(teacher.pretrained_model.config)
        special_ids = tokenizer("", return_attention_mask=False)["input_ids"]
        config = self.network_config(
            width,
            {
                "vocab_size": len(tokenizer),
                "head_size": self.head_size,
                "skipped_ids": sorted(set(special_ids)),
                "pooling": self.pooling,
                "dropout": self.dropout,
                "word_dropout": self.word_dropout,
                "pad_token_id": tokenizer.pad_token_id,
                **pair_settings(data, tokenizer),
                **context.head_settings(),
            },
        )
        model = task.head.build(config)
        weight = embedding_tables.embedding_weight(model)
        table = embedding_tables.initial_table(self.start, teacher, width, kept, context.cache_dir)
        with torch.no_grad():
            if table is not None:
                weight.copy_(table)
            if self.weighting == "frequency":
                # A corpus' vocabulary cuts its texts into the same tokens as the whole.
                same = self.vocabulary in ("full", "corpus")
                found = token_counts(data, teacher.processor if same else tokenizer)
                counts = torch.from_numpy(found[kept.numpy()] if same else found).float()
                frequencies = counts / counts.sum().clamp(min=1)
                weight.mul_((SMOOTHING / (SMOOTHING + frequencies))[:, None])
        origin = "random weights" if table is None else f"the teacher's {self.start} of each token"
        return Student(
            self.name, model, tokenizer, origin, new_head=True, max_length=self.max_length
        )


def check_positive(factory: Any, *options: str) -> None:
    """Raise a ``UserError`` for an option of a student that is below 1; ``None`` is allowed."""
    for option in options:
        value = getattr(factory, option)
        if value is not None and value < 1:
            raise UserError(f"student.{option}={value}: it must be 1 or more")


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
