"""Matrix products in fp32, whatever precision a model is trained in."""

import torch
from torch import Tensor


def fp32_matmul(first: Tensor, second: Tensor) -> Tensor:
    """Compute ``first @ second`` in fp32, also under autocast.

    Autocast lowers a matrix product to bf16 even if both factors are fp32, and the rounding error
    exceeds the differences that a loss measures.
    """
    with torch.autocast(first.device.type, enabled=False):
        return first.float() @ second.float()


def attention_scores(queries: Tensor, keys: Tensor) -> Tensor:
    r"""Compute scaled dot products before the softmax, :math:`Q K^T / \sqrt{d}`, in fp32.

    Args:
        queries: ``(N, H, L, d)``.
        keys: ``(N, H, L, d)``.

    Returns:
        ``(N, H, L, L)``; padded keys are not masked.

    >>> attention_scores(torch.ones(1, 1, 1, 4), torch.ones(1, 1, 2, 4))
    tensor([[[[2., 2.]]]])
    """
    scores: Tensor = fp32_matmul(queries, keys.transpose(-1, -2)) / queries.shape[-1] ** 0.5
    return scores
