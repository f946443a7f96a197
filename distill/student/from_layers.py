"""A student that starts from some of the teacher's layers."""

import copy
import logging
import re
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

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
    """Copies embeddings, head and some layers of the teacher.

    DistilBERT (Sanh et al. 2019, section 3) and PKD (Sun et al. 2019, section 4) initialize the
    student from layers of the pretrained model; here the fine-tuned layers and head of the teacher
    are copied, so less is left to learn.

    Attributes:
        name: name in reports.
        layers: indices of the teacher's layers to copy, from 0; or ``all``, ``half`` (every second
            layer), ``third`` (every third), ``lower`` (the lower half) or ``single`` (the first).
        hidden_size: width of the hidden states: a number, a fraction of the teacher's (0.5), or
            ``None`` for the teacher's.
        heads: number of attention heads of each layer, likewise; their width does not change.
        intermediate_size: width of the feed-forward layers, likewise.
        importance: which units are kept if there are fewer: those with the largest weights
            (``magnitude``, the meaning of ``None``) or the ``first``; see
            :func:`~distill.student.narrow.narrow_model`.
        embedding_size: rank of the embedding table, which becomes a product of two tables, see
            :func:`~distill.modeling.compact.factorize_embeddings`; ``None`` leaves it unchanged.
        vocabulary: ``full``, ``corpus`` (the tokens of the training texts) or the number of their
            most frequent tokens to keep; see :func:`~distill.student.vocabulary.trim_tokenizer`.
    """

    name: str
    layers: list[int] | Literal["all", "half", "third", "lower", "single"]
    hidden_size: int | float | None = None
    heads: int | float | None = None
    intermediate_size: int | float | None = None
    importance: Importance | None = None
    embedding_size: int | None = None
    vocabulary: Literal["full", "corpus"] | int = "full"

    def __post_init__(self) -> None:
        vocabulary.check_vocabulary(self.vocabulary)
        if self.importance not in (None, *get_args(Importance)):
            raise UserError(f"student.importance={self.importance}: choose magnitude or first")
        if self.importance is not None and not self._has_own_widths:
            raise UserError(
                f"student.importance={self.importance} changes nothing: give student.hidden_size, "
                "heads or intermediate_size"
            )

    @property
    def _has_own_widths(self) -> bool:
        return any(
            size is not None for size in (self.hidden_size, self.heads, self.intermediate_size)
        )

    def resolve_widths(self, teacher_config: PreTrainedConfig) -> Widths | None:
        """Return the widths of the student; ``None`` if they are the teacher's.

        Raises:
            UserError: for widths that exceed the teacher's, or that its family cannot have.
        """
        if not self._has_own_widths:
            return None
        narrow.check_family(teacher_config)
        teacher = Widths.from_config(teacher_config)
        widths = Widths(
            **{
                option: _resolve_size(option, getattr(self, option), getattr(teacher, option))
                for option in vars(teacher)
            }
        )
        narrow.check_widths(teacher_config, widths)
        return widths

    def layer_indices(self, depth: int) -> list[int]:
        """Return the indices of the layers to copy.

        Args:
            depth: number of layers of the teacher.

        Raises:
            UserError: for a layer that does not exist or is named twice.
        """
        if isinstance(self.layers, str):
            if self.layers == "all":
                return list(range(depth))
            if self.layers == "single":
                return [0]
            if self.layers == "lower":
                return list(range((depth + 1) // 2))
            if self.layers not in LAYER_STRIDES:
                raise UserError(
                    f"student.layers={self.layers}: choose all, half, third, lower, single or a "
                    "list of layers"
                )
            return list(range(0, depth, LAYER_STRIDES[self.layers]))
        indices = list(self.layers)
        if not indices:
            raise UserError("student.layers=[]: name at least one layer")
        missing = [layer for layer in indices if not 0 <= layer < depth]
        if missing:
            raise UserError(
                f"student.layers={indices}: the teacher has the layers 0 to {depth - 1}, "
                f"not {missing[0]}"
            )
        if len(set(indices)) < len(indices):
            raise UserError(f"student.layers={indices}: a layer is named twice")
        return indices

    def check(self, teacher_config: PreTrainedConfig) -> None:
        """Raise a ``UserError`` for layers or widths that the teacher cannot provide."""
        if not getattr(teacher_config, "num_attention_heads", None):
            raise UserError(
                f"student.layers={self.layers}: the teacher ({teacher_config.model_type}) has no "
                "transformer layers to copy"
            )
        self.layer_indices(teacher_config.num_hidden_layers)
        widths = self.resolve_widths(teacher_config)
        layer_stack(meta_model(teacher_config))
        _check_layers_fit(teacher_config, self.layer_indices(teacher_config.num_hidden_layers))
        if self.embedding_size is not None:
            width = getattr(teacher_config, "embedding_size", None)
            if width in (None, teacher_config.hidden_size):
                width = widths.hidden_size if widths else teacher_config.hidden_size
            check_embedding_rank(teacher_config, self.embedding_size, width)

    def architecture(self, teacher_config: PreTrainedConfig) -> StudentArchitecture:
        """Return the architecture; the vocabulary is the teacher's or a part of it."""
        teacher, widths = model_shape(teacher_config), self.resolve_widths(teacher_config)
        student = replace(teacher, layers=len(self.layer_indices(teacher.layers)))
        if widths is not None:
            head_size = teacher.attention_width // teacher.heads
            student = ModelShape(student.layers, widths.hidden_size, widths.heads, head_size)
        return StudentArchitecture(student, trims_vocabulary=self.vocabulary != "full")

    def build(self, context: StudentContext) -> Student:
        """Return the student with its initial weights."""
        teacher = context.teacher.pretrained_model
        depth = len(layer_stack(teacher).layers)
        indices = self.layer_indices(depth)
        model = _copy_layers(teacher, indices)
        log.info("student: layers %s of the teacher's %d", indices, depth)
        origin = f"layers {', '.join(map(str, indices))} of the teacher's {depth}"
        widths = self.resolve_widths(model.config)
        if widths is not None:
            importance = self.importance or "magnitude"
            full = Widths.from_config(model.config)
            model = narrow.narrow_model(model, widths, importance)
            origin += (
                f", narrowed to {widths.hidden_size} of {full.hidden_size} hidden units, "
                f"{widths.heads} of {full.heads} heads and {widths.intermediate_size} of "
                f"{full.intermediate_size} feed-forward units by "
                f"{'their weights' if importance == 'magnitude' else 'their order'}"
            )
        tokenizer = context.teacher.processor
        if self.vocabulary != "full":
            full_size = len(tokenizer)
            tokenizer, kept = vocabulary.trim_tokenizer(tokenizer, self.vocabulary, context.data)
            vocabulary.trim_model(model, kept, tokenizer)
            origin += f", {len(kept)} of its {full_size} tokens"
        if self.embedding_size is not None:
            model = factorize_embeddings(model, self.embedding_size)
            origin += f", its embedding table factorized at rank {self.embedding_size}"
        return Student(self.name, model, tokenizer, origin)


def _student_config(config: PreTrainedConfig, indices: list[int]) -> PreTrainedConfig:
    """Return the configuration of a model with some of the layers, in this order."""
    depth, result = config.num_hidden_layers, copy.deepcopy(config)
    result.num_hidden_layers = len(indices)
    # Settings of single layers (kinds and windows of attention) are copied with their layers.
    for name, value in config.to_dict().items():
        if name in PER_LAYER and isinstance(value, list | tuple) and len(value) == depth:
            setattr(result, name, [value[layer] for layer in indices])
    return result


# Settings with one value for each layer.
PER_LAYER = frozenset({"layer_types", "mlp_layer_types", "attention_window"})


def _layer_weights(model: PreTrainedModel) -> list[dict[str, torch.Size]]:
    """Return the shapes of each layer's weights by name."""
    return [
        {name: weight.shape for name, weight in layer.state_dict().items()}
        for layer in layer_stack(model).layers
    ]


def _check_layers_fit(config: PreTrainedConfig, indices: list[int]) -> None:
    """Refuse layers in places where the student has layers of other parts.

    Raises:
        UserError: naming the first one, as ModernBERT's, whose first layer lacks a normalization.
    """
    teacher = _layer_weights(meta_model(config))
    student = _layer_weights(meta_model(_student_config(config, indices)))
    for place, (layer, weights) in enumerate(zip(indices, student, strict=True)):
        if teacher[layer] != weights:
            raise UserError(
                f"student.layers={indices}: layer {layer} of {config.model_type} has other parts "
                f"than its layer {place} must have: keep the first layer first, as in "
                "student.layers=[0,...]"
            )


def _copy_layers(model: PreTrainedModel, indices: list[int]) -> PreTrainedModel:
    """Return a copy of a model in fp32 that has some of its layers, in this order."""
    result = type(model)(_student_config(model.config, indices)).float()
    new_index = {str(layer): str(index) for index, layer in enumerate(indices)}
    pattern = re.compile(rf"^({re.escape(layer_stack(model).path)}\.)(\d+)(\..*)$")
    weights: dict[str, Tensor] = {}
    for key, tensor in model.state_dict().items():
        match = pattern.match(key)
        if match is None:
            weights[key] = tensor
        elif match[2] in new_index:
            weights[match[1] + new_index[match[2]] + match[3]] = tensor
    result.load_state_dict(weights)
    if model.can_generate():  # how it stops and samples is no part of the configuration
        result.generation_config = copy.deepcopy(model.generation_config)
    return result


def _resolve_size(option: str, requested: int | float | None, teacher_size: int) -> int:
    """Return a size that is given as a number, as a fraction of the teacher's, or not at all."""
    if requested is None:
        return teacher_size
    if isinstance(requested, float) and 0 < requested <= 1:
        return max(1, round(requested * teacher_size))
    if not isinstance(requested, int) or not 1 <= requested <= teacher_size:
        raise UserError(
            f"student.{option}={requested}: choose a number from 1 to {teacher_size}, the "
            "teacher's, or a fraction of it such as 0.5"
        )
    return requested
