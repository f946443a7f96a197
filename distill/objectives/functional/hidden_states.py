"""Losses between hidden states, ``(N, L, D)`` each, over the tokens that ``mask`` ``(N, L)`` keeps.

Every token weighs the same within its example, every example the same within the batch; an example
whose tokens are all masked counts as 0.
"""

import torch.nn.functional as F
from torch import Tensor


def hidden_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    r"""Squared error, mean over width, tokens and examples.

    Jiao et al. 2020, "TinyBERT", eq. 8 and 9. The reference code averages over padding too.

    Args:
        student: ``(N, L, D)``, projected to the teacher's width.
        teacher: ``(N, L, D)``; no gradient flows into it.
        mask: ``(N, L)``, not 0 where a token counts.

    >>> import torch
    >>> mask = torch.tensor([[1, 0]])
    >>> hidden_mse(torch.zeros(1, 2, 3), torch.full((1, 2, 3), 2.0), mask)
    tensor(4.)
    """
    error = F.mse_loss(student.float(), teacher.detach().float(), reduction="none").mean(-1)
    return mean_over_tokens(error, mask)


def hidden_cosine(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    r"""One minus the cosine of the angle, mean over tokens and examples; as :func:`hidden_mse`.

    Sanh et al. 2019, "DistilBERT", section 3; its code is ``CosineEmbeddingLoss`` with target 1.
    """
    cosine = F.cosine_similarity(student.float(), teacher.detach().float(), dim=-1)
    return mean_over_tokens(1 - cosine, mask)


def hidden_normalized_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    r"""Squared error of the vectors at length 1, mean over width; as :func:`hidden_mse`.

    Sun et al. 2019, "Patient Knowledge Distillation", eq. 7, on the first token. The paper sums
    over the width, its code averages, and its weights (10 to 1000) are those of the code: so here.
    """
    student = F.normalize(student.float(), dim=-1)
    teacher = F.normalize(teacher.detach().float(), dim=-1)
    return mean_over_tokens(F.mse_loss(student, teacher, reduction="none").mean(-1), mask)


def mean_over_tokens(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over each example's tokens, then over the examples: ``(N, L)`` twice -> scalar."""
    mask = (mask != 0).to(values.dtype)
    by_example = (values * mask).sum(-1) / mask.sum(-1).clamp(min=1)
    return by_example.mean()
