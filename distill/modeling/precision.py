"""Matrix products in fp32, whatever the precision of a training."""

import torch
from torch import Tensor


def fp32_matmul(first: Tensor, second: Tensor) -> Tensor:
    """Return ``first @ second`` in fp32.

    Under autocast a matrix product is lowered to bf16 even if both sides were cast to fp32 before:
    the differences that a loss consists of would be lost in it.
    """
    with torch.autocast(first.device.type, enabled=False):
        return first.float() @ second.float()
