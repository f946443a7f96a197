"""Losses over large vocabularies in chunks of rows: the logits never exist whole.

Every loss that is a mean over rows (tokens) can be computed for a few rows at a time. If autograd
kept the graph of each chunk, all logits would still be in memory when the backward pass begins;
therefore the gradient with respect to the hidden rows and the output layer is computed within the
chunk, as in Hsu et al. 2024, "Liger Kernel", section 3.2 (fused linear cross-entropy). All losses
share one product with the output layer, and only their weighted sum has a gradient.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

RowLosses = Callable[[Tensor, slice], Tensor]
"""Logits ``(n, V)`` of some rows, and which rows they are -> K losses ``(K,)``, means over them."""


def weighted_row_losses(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    row_losses: RowLosses,
    factors: Tensor,
    chunks: list[slice],
) -> tuple[Tensor, Tensor]:
    r"""Compute a weighted sum of losses that are means over rows of logits.

    .. math:: L = \sum_k w_k L_k, \qquad L_k = \frac{1}{U} \sum_u \ell_k(W h_u + b)

    The result is that of ``row_losses`` on all rows at once, up to rounding. Extra memory is that
    of one chunk, and of the gradients with respect to the arguments.

    Args:
        hidden: ``(U, D)``, what the output layer reads.
        weight: ``(V, D)``.
        bias: ``(V,)``, or ``None``.
        row_losses: the losses of some rows; called once for each chunk.
        factors: weight of each loss, ``(K,)``; no gradient flows into them.
        chunks: consecutive slices that cover the rows.

    Returns:
        The weighted sum, a scalar with gradient, which can be propagated once; and the K losses
        without gradient. Without any row all are 0, and so is the gradient.

    >>> def mean_square(logits, rows):
    ...     return logits.square().mean().reshape(1)
    >>> hidden, weight = torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0], [3.0]])
    >>> chunks = [slice(0, 1), slice(1, 2)]
    >>> weighted_row_losses(hidden, weight, None, mean_square, torch.tensor([2.0]), chunks)
    (tensor(25.), tensor([12.5000]))
    """
    function: Any = _WeightedRowLosses
    total, losses = function.apply(hidden, weight, bias, row_losses, factors, chunks)
    return total, losses


class _WeightedRowLosses(torch.autograd.Function):
    """Computes the gradient in the forward pass, chunk by chunk, and scales it in the backward."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        row_losses: RowLosses,
        factors: Tensor,
        chunks: list[slice],
    ) -> tuple[Tensor, Tensor]:
        device = hidden.device.type
        rows, table, shift = hidden, weight, bias
        if torch.is_autocast_enabled(device):  # cast once, not for each chunk
            dtype = torch.get_autocast_dtype(device)
            rows, table = hidden.to(dtype), weight.to(dtype)
            shift = None if bias is None else bias.to(dtype)
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        gradients = [
            torch.zeros_like(tensor) if needed and tensor is not None else None
            for tensor, needed in (
                (hidden, needs_hidden), (weight, needs_weight), (bias, needs_bias),
            )
        ]  # fmt: skip
        losses = torch.zeros_like(factors)
        with torch.autocast(device, enabled=False):
            for part in chunks:
                logits = F.linear(rows[part], table, shift)
                share = len(logits) / len(hidden)
                if not any(gradient is not None for gradient in gradients):
                    losses += row_losses(logits, part) * share
                    continue
                logits.requires_grad_()
                with torch.enable_grad():
                    of_part = row_losses(logits, part) * share
                    (slope,) = torch.autograd.grad((of_part * factors).sum(), logits)
                losses += of_part.detach()
                del of_part, logits
                _accumulate(gradients, slope, rows[part], table, part)
        ctx.gradients = gradients
        ctx.mark_non_differentiable(losses)
        return (losses * factors).sum(), losses

    @staticmethod
    def backward(ctx: Any, *slopes: Any) -> Any:
        if ctx.gradients is None:
            raise RuntimeError("the gradient of losses in chunks can be propagated only once")
        gradients, ctx.gradients = ctx.gradients, None
        for gradient in gradients:
            if gradient is not None:
                gradient.mul_(slopes[0])
        return *gradients, None, None, None


def _accumulate(
    gradients: list[Tensor | None], slope: Tensor, rows: Tensor, table: Tensor, part: slice
) -> None:
    """Add what a chunk gives to the gradients of hidden rows, weight and bias."""
    of_hidden, of_weight, of_bias = gradients
    if of_hidden is not None:
        of_hidden[part] = slope @ table
    if of_weight is not None:
        if of_weight.dtype == slope.dtype:
            of_weight.addmm_(slope.t(), rows)
        else:
            of_weight += slope.t() @ rows
    if of_bias is not None:
        of_bias += slope.sum(0, dtype=of_bias.dtype)
