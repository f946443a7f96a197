"""How large a model is: parameters, bytes, multiply-accumulates."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


class Parameters(NamedTuple):
    """Parameters of a model, shared ones counted once."""

    total: int
    without_embeddings: int


def count_parameters(model: nn.Module) -> Parameters:
    """Count parameters; ``without_embeddings`` leaves out every look-up table.

    A table that also serves as an output projection (tied weights) counts as a table.
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
    """Bytes of the parameters as they are held (and saved)."""
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


def multiply_accumulates(model: nn.Module, inputs: Mapping[str, Tensor]) -> int:
    """Multiply-accumulates of one example's forward pass, counted as it runs.

    Every matrix product counts, those of attention included: fused attention kernels are switched
    off while counting, for torch's counter sees nothing of them on a CPU. An LSTM's are counted by
    formula: its fused kernels are unknown to the counter too. What is not a matrix
    product (normalisation, activations, softmax, look-ups) does not count.

    Args:
        model: any model.
        inputs: of one example, see ``Preprocessor.example_inputs``.
    """
    device = next(model.parameters()).device
    counter = FlopCounterMode(display=False, custom_mapping=_RECURRENT)
    training = model.training
    model.eval()
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), counter:
        model(**{name: value.to(device) for name, value in inputs.items()})
    model.train(training)
    return counter.get_total_flops() // 2


def _rnn_flops(values, weights, *_, **__) -> int:
    """Two for each number of the weight matrices and each token; called with shapes."""
    return 2 * math.prod(values[:-1]) * sum(math.prod(shape) for shape in weights if len(shape) > 1)


# One kernel runs a whole layer: in one direction on a CPU, all weights in a list on a GPU.
_RECURRENT = {
    torch.ops.aten.mkldnn_rnn_layer: lambda values, first, second, *_, **__: _rnn_flops(
        values, [first, second]
    ),
    torch.ops.aten._cudnn_rnn: _rnn_flops,
}
