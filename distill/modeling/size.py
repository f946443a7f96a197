"""Size of a model: parameters, bytes, multiply-accumulates."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

Shape = Sequence[int]


class Parameters(NamedTuple):
    """Number of parameters of a model; shared ones are counted once.

    Attributes:
        total: all parameters.
        without_embeddings: those outside of embedding tables.
    """

    total: int
    without_embeddings: int


def count_parameters(model: nn.Module) -> Parameters:
    """Count the parameters of a model.

    A table that is also an output projection (tied weights) counts as an embedding table.
    """
    tables = {
        parameter
        for module in model.modules()
        if isinstance(module, nn.Embedding | nn.EmbeddingBag)
        for parameter in module.parameters(recurse=False)
    }
    total = sum(parameter.numel() for parameter in model.parameters())
    return Parameters(total, total - sum(parameter.numel() for parameter in tables))


def count_bytes(model: nn.Module) -> int:
    """Count the bytes of the parameters in memory."""
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


def size_on_disk(files: Sequence[Path], model: nn.Module) -> int:
    """Return the size of a model's saved weights in bytes.

    Args:
        files: files of the weights; of an ensemble those of all members.
        model: the model, whose parameters in memory are counted where there is no file.
    """
    return sum(file.stat().st_size for file in files) if files else count_bytes(model)


def multiply_accumulates(model: nn.Module, inputs: Mapping[str, Tensor]) -> int:
    """Count the multiply-accumulates of a forward pass on one example while it runs.

    All matrix products count, including those of attention: fused attention kernels are disabled
    while counting because torch's counter does not see them on a CPU. Those of an LSTM are counted
    by formula because the counter does not know its fused kernels either. Everything else
    (normalization, activations, softmax, embedding lookups) does not count.

    Args:
        model: any model; its training mode is restored.
        inputs: inputs of one example, see ``Preprocessor.example_inputs``.
    """
    device = next(model.parameters()).device
    counter = FlopCounterMode(display=False, custom_mapping=_RECURRENT)
    training = model.training
    model.eval()
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), counter:
        model(**{name: value.to(device) for name, value in inputs.items()})
    model.train(training)
    return counter.get_total_flops() // 2


def _rnn_flops(values: Shape, weights: Sequence[Shape], *_: Any, **__: Any) -> int:
    """Count two operations per weight and token; the counter passes shapes."""
    return 2 * math.prod(values[:-1]) * sum(math.prod(shape) for shape in weights if len(shape) > 1)


# Kernels of a whole layer: of one direction on a CPU; on a GPU with all weights in one list.
_RECURRENT = {
    torch.ops.aten.mkldnn_rnn_layer: lambda values, first, second, *_, **__: _rnn_flops(
        values, [first, second]
    ),
    torch.ops.aten._cudnn_rnn: _rnn_flops,
}
