"""A student made of some of the teacher's layers."""

import copy
import logging
import re
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from transformers import PreTrainedConfig, PretrainedConfig

from distill.core.errors import UserError
from distill.modeling.compact import check_embedding_rank, factorize_embeddings
from distill.modeling.families import layer_stack
from distill.modeling.loading import meta_model
from distill.modeling.shape import ModelShape, model_shape
from distill.student import narrow, vocabulary
from distill.student.base import (
    Student,
    StudentArchitecture,
    StudentContext,
    StudentFactory,
)
from distill.student.narrow import Importance, Widths

log = logging.getLogger(__name__)

LAYER_STRIDES = {"half": 2, "third": 3}


@dataclass(kw_only=True)
class LayersFactory(StudentFactory):
    """Copies embeddings, head and some layers of the teacher, made ready for the task.

    Starting from layers of the teacher is DistilBERT's initialisation (Sanh et al. 2019, section
    3) and PKD's (Sun et al. 2019, section 4), which both start from layers of the pretrained model;
    here the teacher's head and fine-tuned layers are copied, so less is left to learn.

    Attributes:
        name: what reports call it.
        layers: the teacher's layers to copy, counted from 0; or ``all``, ``half`` (every other
            one), ``third`` (every third) or ``single`` (the first).
        hidden_size: width of the stream that all layers add to: a number, a share of the
            teacher's (0.5), or ``None`` for the teacher's.
        heads: attention heads of each layer, likewise. They keep their width.
        intermediate_size: width of the feed-forward layers, likewise.
        importance: which units are kept where there are fewer: those of the largest weights
            (``magnitude``, what ``None`` means) or the ``first``; see :func:`narrowed`.
        embedding_size: rank of the word table, which becomes a product of two
            (see :func:`factorize_embeddings`); ``None`` leaves it.
        vocabulary: ``full``, ``corpus`` (the tokens of the training texts) or how many of their
            most frequent tokens, and what any text needs; see :func:`smaller`.
    """

    name: str
    layers: list[int] | Literal["all", "half", "third", "single"]
    hidden_size: int | float | None = None
    heads: int | float | None = None
    intermediate_size: int | float | None = None
    importance: Importance | None = None
    embedding_size: int | None = None
    vocabulary: Literal["full", "corpus"] | int = "full"

    def __post_init__(self):
        vocabulary.check_vocabulary(self.vocabulary)
        if self.importance not in (None, *get_args(Importance)):
            raise UserError(f"student.importance={self.importance}: choose magnitude or first")
        if self.importance is not None and not self._narrows:
            raise UserError(
                f"student.importance={self.importance} changes nothing: give student.hidden_size, "
                "heads or intermediate_size"
            )

    @property
    def _narrows(self) -> bool:
        return any(
            size is not None for size in (self.hidden_size, self.heads, self.intermediate_size)
        )

    def widths(self, config: PretrainedConfig) -> Widths | None:
        """How wide the student is; ``None`` as the teacher.

        Raises:
            UserError: for sizes that the teacher does not have, or cannot be narrowed to.
        """
        if not self._narrows:
            return None
        narrow.check_family(config)
        own = Widths.of(config)
        widths = Widths(
            **{
                option: _resolve_size(option, getattr(self, option), getattr(own, option))
                for option in vars(own)
            }
        )
        narrow.check(config, widths)
        return widths

    def chosen(self, depth: int) -> list[int]:
        """The layers to copy of a teacher with so many.

        Raises:
            UserError: for a layer that does not exist or stands twice.
        """
        if isinstance(self.layers, str):
            if self.layers == "all":
                return list(range(depth))
            if self.layers == "single":
                return [0]
            if self.layers not in LAYER_STRIDES:
                raise UserError(
                    f"student.layers={self.layers}: choose all, half, third, single or a list of "
                    "layers"
                )
            return list(range(0, depth, LAYER_STRIDES[self.layers]))
        chosen = list(self.layers)
        if not chosen:
            raise UserError("student.layers=[]: name at least one layer")
        outside = [layer for layer in chosen if not 0 <= layer < depth]
        if outside:
            raise UserError(
                f"student.layers={chosen}: the teacher has the layers 0 to {depth - 1}, "
                f"not {outside[0]}"
            )
        if len(set(chosen)) < len(chosen):
            raise UserError(f"student.layers={chosen}: a layer stands twice")
        return chosen

    def check(self, teacher_config: PreTrainedConfig) -> None:
        """Refuse layers that the teacher does not have, before anything is trained."""
        if not getattr(teacher_config, "num_attention_heads", None):
            raise UserError(
                f"student.layers={self.layers}: the teacher ({teacher_config.model_type}) has no "
                "transformer layers to copy"
            )
        self.chosen(teacher_config.num_hidden_layers)
        widths = self.widths(teacher_config)
        layer_stack(meta_model(teacher_config))
        if self.embedding_size is not None:
            width = getattr(teacher_config, "embedding_size", None)
            if width in (None, teacher_config.hidden_size):
                width = widths.hidden_size if widths else teacher_config.hidden_size
            check_embedding_rank(teacher_config, self.embedding_size, width)

    def architecture(self, teacher_config: PreTrainedConfig) -> StudentArchitecture:
        """Return the shape; the vocabulary is the teacher's or a part of it."""
        teacher, widths = model_shape(teacher_config), self.widths(teacher_config)
        student = replace(teacher, layers=len(self.chosen(teacher.layers)))
        if widths is not None:
            size = teacher.attention_width // teacher.heads
            student = ModelShape(student.layers, widths.hidden_size, widths.heads, size)
        return StudentArchitecture(student, trims_vocabulary=self.vocabulary != "full")

    def build(self, context: StudentContext) -> Student:
        """Return the student with its initial weights."""
        teacher, data = context.teacher, context.data
        found = layer_stack(teacher.model)
        name, stack = found.path, found.layers
        chosen = self.chosen(len(stack))
        config = copy.deepcopy(teacher.model.config)
        config.num_hidden_layers = len(chosen)
        # Per-layer settings (decoders have them) follow their layers.
        if getattr(config, "layer_types", None):
            config.layer_types = [config.layer_types[layer] for layer in chosen]
        model = type(teacher.model)(config).to(torch.float32)
        position = {str(layer): str(index) for index, layer in enumerate(chosen)}
        pattern = re.compile(rf"^({re.escape(name)}\.)(\d+)(\..*)$")
        weights = {}
        for key, tensor in teacher.model.state_dict().items():
            match = pattern.match(key)
            if match is None:
                weights[key] = tensor
            elif match[2] in position:
                weights[match[1] + position[match[2]] + match[3]] = tensor
        model.load_state_dict(weights)
        log.info("student: layers %s of the teacher's %d", chosen, len(stack))
        origin = f"layers {', '.join(map(str, chosen))} of the teacher's {len(stack)}"
        widths = self.widths(config)
        if widths is not None:
            importance = self.importance or "magnitude"
            model = narrow.narrow_model(model, widths, importance)
            own = Widths.of(config)
            origin += (
                f", narrowed to {widths.hidden_size} of {own.hidden_size} hidden units, "
                f"{widths.heads} of {own.heads} heads and {widths.intermediate_size} of "
                f"{own.intermediate_size} feed-forward units by "
                f"{'their weights' if importance == 'magnitude' else 'their order'}"
            )
        tokenizer = teacher.processor
        if self.vocabulary != "full":
            tokenizer, kept = vocabulary.trim_tokenizer(tokenizer, self.vocabulary, data)
            vocabulary.trim_model(model, kept, tokenizer)
            origin += f", {len(kept)} of its {len(teacher.processor)} tokens"
        if self.embedding_size is not None:
            model = factorize_embeddings(model, self.embedding_size)
            origin += f", its word table factorised at rank {self.embedding_size}"
        return Student(self.name, model, tokenizer, origin)


def _resolve_size(option: str, wanted: int | float | None, total: int) -> int:
    """So many of ``total``: a number of them, or a share."""
    if wanted is None:
        return total
    if isinstance(wanted, float) and 0 < wanted <= 1:
        return max(1, round(wanted * total))
    if not isinstance(wanted, int) or not 1 <= wanted <= total:
        raise UserError(
            f"student.{option}={wanted}: from 1 to {total}, which the teacher has, or a share of "
            "it such as 0.5"
        )
    return wanted
