"""Linear layers with weights in oneDNN's own layout, for fp32 inference.

torch computes a linear layer in fp32 with MKL, which uses half of the vector width of processors
that are not Intel's: on an AMD EPYC with AVX-512, one thread, 1,600 rows and weights of 384 x
1,536, 105 GFLOP/s, where oneDNN reaches 240 (torch 2.13.0); a pass of MiniLM takes 0.5 to 0.6 of
the time. In bf16 torch calls oneDNN anyway. Results differ by rounding (4e-6 in MiniLM's last
hidden states).
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from distill.core.hardware import mkl_is_slow

# Weights of fewer elements gain little. Tiny models stay equal to torch to the bit.
MIN_ELEMENTS = 2**16
# Number of rows that the layout is chosen for; others take it too.
ROWS = 1024


@contextmanager
def packed_linears(model: nn.Module, enabled: bool | None = None) -> Iterator[None]:
    """Compute the large linear layers of a model with oneDNN within the context.

    For inference alone: the layers have no gradient, and changes of their weights within the
    context have no effect. Output layers over a vocabulary, layers on other devices, of other
    precisions and of subclasses of ``nn.Linear`` stay as they are.

    Args:
        model: the model.
        enabled: ``None``: where oneDNN is faster than MKL.
    """
    layers = pack_linears(model, enabled)
    try:
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)


def pack_linears(model: nn.Module, enabled: bool | None = None) -> list[nn.Linear]:
    """Do what :func:`packed_linears` does for good, for a model that only answers.

    Returns:
        The layers that were changed.
    """
    if not (mkl_is_slow() if enabled is None else enabled):
        return []
    modules = list(model.modules())
    # Over a vocabulary the weights would take as much memory again.
    left_out = [one.get_output_embeddings() for one in modules if isinstance(one, PreTrainedModel)]
    layers = [
        layer
        for layer in modules
        if isinstance(layer, nn.Linear)
        and _gains(layer)
        and not any(layer is one for one in left_out)
    ]
    with torch.inference_mode():
        for layer in layers:
            weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), ROWS)
            layer.forward = functools.partial(_forward, layer, weight)  # type: ignore[method-assign]
    return layers


def _gains(layer: nn.Linear) -> bool:
    return (
        type(layer) is nn.Linear  # not of a subclass, which may compute something else
        and "forward" not in layer.__dict__
        and layer.weight.device.type == "cpu"
        and layer.weight.dtype == torch.float32
        and layer.weight.numel() >= MIN_ELEMENTS
    )


def _forward(layer: nn.Linear, weight: Tensor, inputs: Tensor) -> Tensor:
    """Return the outputs ``(..., O)`` of inputs ``(..., I)``."""
    is_other = inputs.dtype != torch.float32 or torch.is_autocast_enabled("cpu")
    if is_other or not inputs.numel() or torch.is_grad_enabled():
        return functional.linear(inputs, layer.weight, layer.bias)
    outputs: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, weight, layer.bias, "none", [], "")
    return outputs
