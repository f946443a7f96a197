"""Matrix products in fp32, whatever precision a training runs in."""

import torch
from torch import Tensor


def fp32_matmul(first: Tensor, second: Tensor) -> Tensor:
    """``first @ second`` in fp32.

    Under autocast a matrix product is lowered to bf16 even where both sides were raised to fp32
    before: the differences that a loss consists of would drown in it.
    """
    with torch.autocast(first.device.type, enabled=False):
        return first.float() @ second.float()
