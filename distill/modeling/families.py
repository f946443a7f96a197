"""What model families call their layers, projections, positions and weights: one table.

A family is looked up by ``config.model_type``. Models that are not in the table work wherever the
generic names are enough; what needs a family (narrowing, evaluating the last layer at single
positions) refuses or falls back to the whole forward pass.
"""

import re
from dataclasses import dataclass
from typing import cast

from torch import nn
from transformers import PreTrainedConfig

from distill.core.errors import UserError

COMPACT_PREFIX = "distill_compact_"
"""Start of the ``model_type`` of this package's own variants of a family."""


@dataclass(frozen=True)
class Projections:
    """Names of the projections of self-attention within a layer."""

    query: str
    key: str
    value: str


BERT_PROJECTIONS = Projections("query", "key", "value")
DISTILBERT_PROJECTIONS = Projections("q_lin", "k_lin", "v_lin")
LLAMA_PROJECTIONS = Projections("q_proj", "k_proj", "v_proj")
ALL_PROJECTIONS = (BERT_PROJECTIONS, DISTILBERT_PROJECTIONS, LLAMA_PROJECTIONS)


@dataclass(frozen=True)
class Family:
    """Names and properties that a family's models have in common.

    A layer of these families is attention followed by functions of single tokens, so that the last
    one can be computed at selected positions only.

    Attributes:
        model_type: transformers' name.
        projections: names of the attention projections.
        feed_forward_size: name of the configuration's feed-forward width.
    """

    model_type: str
    projections: Projections
    feed_forward_size: str = "intermediate_size"


FAMILIES = {
    family.model_type: family
    for family in (
        Family("bert", BERT_PROJECTIONS),
        Family("roberta", BERT_PROJECTIONS),
        Family("xlm-roberta", BERT_PROJECTIONS),
        Family("camembert", BERT_PROJECTIONS),
        Family("electra", BERT_PROJECTIONS),
        Family("distilbert", DISTILBERT_PROJECTIONS, feed_forward_size="hidden_dim"),
    )
}


# Families whose position ids start after the padding id.
POSITIONS_AFTER_PADDING = frozenset(
    {
        "roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer",
        "roberta-prelayernorm", "data2vec-text", "xmod", "ibert",
    }
)  # fmt: skip


def config_of(model: nn.Module) -> PreTrainedConfig:
    """Return the configuration of a model; an ensemble has that of its first member."""
    return cast(PreTrainedConfig, model.config)


def output_names(config: PreTrainedConfig) -> dict[int, str]:
    """Return the name of each output of a model's head by its index."""
    return {int(index): name for index, name in (config.id2label or {}).items()}


def family_name(config: PreTrainedConfig) -> str:
    """Return the family's ``model_type``; that of BERT for its compact variant too."""
    return config.model_type.removeprefix(COMPACT_PREFIX)


def find_family(config: PreTrainedConfig) -> Family | None:
    """Return the family of a model, ``None`` if it is not in the table."""
    return FAMILIES.get(family_name(config))


# --- layers ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LayerStack:
    """A stack of equal layers.

    Attributes:
        name: ``encoder``, ``decoder``, or for other models the name of the module that holds it.
        path: path of the ``ModuleList`` in the model.
        layers: the layers.
    """

    name: str
    path: str
    layers: nn.ModuleList


# Attributes of a configuration that count the layers of a stack.
DEPTH_ATTRIBUTES = ("num_hidden_layers", "encoder_layers", "decoder_layers", "num_decoder_layers")
STACK_NAMES = ("encoder", "decoder")


def layer_stacks(model: nn.Module) -> dict[str, LayerStack]:
    """Return the stacks of equal layers that the model's configuration counts, by name."""
    config = config_of(model)
    depths = {
        depth for name in DEPTH_ATTRIBUTES if isinstance(depth := getattr(config, name, None), int)
    }
    found = [
        (path, module)
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList)
        and len(module) in depths
        and len({type(layer) for layer in module}) == 1
        and len(list(module.parameters())) > 0
    ]
    # The outermost ones: a model may keep lists inside its layers.
    outermost = [
        (path, module)
        for path, module in found
        if not any(path.startswith(outer_path + ".") for outer_path, _ in found)
    ]
    stacks: dict[str, LayerStack] = {}
    for path, module in outermost:
        parents = path.split(".")[:-1]
        name = next((part for part in reversed(parents) if part in STACK_NAMES), None)
        name = name or (parents[-1] if parents else path)
        if name in stacks:
            name = path
        stacks[name] = LayerStack(name, path, module)
    return stacks


def layer_stack(model: nn.Module, name: str | None = None) -> LayerStack:
    """Return a stack by name, or the only one.

    Raises:
        UserError: if there is no such stack, or several and none is named.
    """
    stacks = layer_stacks(model)
    if name is not None:
        if name not in stacks:
            raise UserError(
                f"{type(model).__name__} has no stack of layers called {name}: "
                f"{', '.join(stacks) or 'it has none'}"
            )
        return stacks[name]
    if len(stacks) != 1:
        raise UserError(f"{type(model).__name__} has no single stack of layers to choose from")
    return next(iter(stacks.values()))


def attention_projections(model: nn.Module, stack: str | None = None) -> list[dict[str, nn.Module]]:
    """Return the ``queries``, ``keys`` and ``values`` projection of each layer.

    Raises:
        UserError: if a layer has not exactly one of each, or attention depends on more than them.
    """
    name, config = type(model).__name__, config_of(model)
    if getattr(config, "rope_parameters", None) or getattr(config, "rope_theta", None):
        raise UserError(f"{name}: its attention rotates queries and keys, which is not supported")
    if getattr(config, "is_decoder", False) or any(
        getattr(module, "is_causal", False) for module in model.modules()
    ):
        raise UserError(f"{name}: its attention is causal, which is not supported")
    names = {
        "queries": {projections.query for projections in ALL_PROJECTIONS},
        "keys": {projections.key for projections in ALL_PROJECTIONS},
        "values": {projections.value for projections in ALL_PROJECTIONS},
    }
    result = []
    for layer in layer_stack(model, stack).layers:
        leaves = [(path.rsplit(".", 1)[-1], module) for path, module in layer.named_modules()]
        by_kind = {
            kind: [module for leaf, module in leaves if leaf in allowed]
            for kind, allowed in names.items()
        }
        if any(len(modules) != 1 for modules in by_kind.values()):
            raise UserError(
                f"{name}: its query, key and value projections cannot be identified, so no term "
                "can compare its attention"
            )
        result.append({kind: modules[0] for kind, modules in by_kind.items()})
    return result


# --- weights --------------------------------------------------------------------------------------

# Axes of each weight by the end of its name (BERT, RoBERTa and ELECTRA, then DistilBERT, then
# heads): e(mbedding), h(idden), a(ll heads), f(eed-forward), - (unchanged).
WEIGHT_AXES = [
    (re.compile(pattern + "$"), axes)
    for pattern, axes in (
        (r"embeddings\.(word|position|token_type)_embeddings\.weight", "-e"),
        (r"embeddings\.word_embeddings\.table\.weight", "--"),
        (r"embeddings\.word_embeddings\.projection\.weight", "e-"),
        (r"embeddings\.LayerNorm\.(weight|bias)", "e"),
        (r"embeddings_project\.weight", "he"),
        (r"embeddings_project\.bias", "h"),
        (r"attention\.self\.(query|key|value)\.weight", "ah"),
        (r"attention\.self\.(query|key|value)\.bias", "a"),
        (r"attention\.output\.dense\.weight", "ha"),
        (r"intermediate\.dense\.weight", "fh"),
        (r"intermediate\.dense\.bias", "f"),
        (r"layer\.\d+\.output\.dense\.weight", "hf"),
        (r"output\.dense\.bias", "h"),
        (r"output\.LayerNorm\.(weight|bias)", "h"),
        (r"attention\.(q|k|v)_lin\.weight", "ah"),
        (r"attention\.(q|k|v)_lin\.bias", "a"),
        (r"attention\.out_lin\.weight", "ha"),
        (r"attention\.out_lin\.bias", "h"),
        (r"ffn\.lin1\.weight", "fh"),
        (r"ffn\.lin1\.bias", "f"),
        (r"ffn\.lin2\.weight", "hf"),
        (r"ffn\.lin2\.bias", "h"),
        (r"(sa|output)_layer_norm\.(weight|bias)", "h"),
        (r"(pooler\.dense|pre_classifier|classifier\.dense)\.weight", "hh"),
        (r"(pooler\.dense|pre_classifier|classifier\.dense)\.bias", "h"),
        (r"(predictions\.transform|lm_head)\.dense\.weight", "hh"),
        (r"(predictions\.transform|lm_head)\.dense\.bias", "h"),
        (r"(predictions\.transform\.LayerNorm|lm_head\.layer_norm)\.(weight|bias)", "h"),
        (r"(predictions|lm_head)\.decoder\.weight", "-h"),
        (r"(predictions|lm_head)(\.decoder)?\.bias", "-"),
        (r"generator_predictions\.dense\.weight", "eh"),
        (r"generator_predictions\.(dense|LayerNorm)\.(weight|bias)", "e"),
        (r"generator_lm_head\.weight", "-e"),
        (r"generator_lm_head\.bias", "-"),
        (r"vocab_transform\.weight", "hh"),
        (r"(vocab_transform\.bias|vocab_layer_norm\.(weight|bias))", "h"),
        (r"vocab_projector\.weight", "-h"),
        (r"vocab_projector\.bias", "-"),
        (r"(classifier(\.out_proj)?|qa_outputs)\.weight", "-h"),
        (r"(classifier(\.out_proj)?|qa_outputs)\.bias", "-"),
    )
]
VALUE_WEIGHT = re.compile(r"(self\.value|v_lin)\.weight$")
ATTENTION_OUTPUT_WEIGHT = re.compile(r"attention\.(output\.dense|out_lin)\.weight$")
