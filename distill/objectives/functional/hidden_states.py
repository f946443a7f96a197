"""Losses between hidden states ``(N, L, D)``, over the tokens that ``mask`` ``(N, L)`` keeps.

Every token has the same weight within its example, every example the same weight within the batch;
an example whose tokens are all masked counts as 0.
"""

import torch.nn.functional as F
from torch import Tensor


def hidden_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    r"""Compute the squared error, averaged over width, tokens and examples.

    .. math:: \frac{1}{N} \sum_n \frac{1}{\sum_l m_{nl}} \sum_l m_{nl}
       \frac{1}{D} \| h^s_{nl} - h^t_{nl} \|^2

    Jiao et al. 2020, "TinyBERT", eq. 8 and 9. The reference code
    (huawei-noah/Pretrained-Language-Model, ``task_distill.py``) averages over padding too.

    Args:
        student: ``(N, L, D)``, projected to the teacher's width.
        teacher: ``(N, L, D)``; no gradient flows into it.
        mask: ``(N, L)``, not 0 where a token counts; the denominator is the number of these.

    Returns:
        Scalar.

    >>> import torch
    >>> mask = torch.tensor([[1, 0]])
    >>> hidden_mse(torch.zeros(1, 2, 3), torch.full((1, 2, 3), 2.0), mask)
    tensor(4.)
    """
    error = F.mse_loss(student.float(), teacher.detach().float(), reduction="none").mean(-1)
    return mean_over_tokens(error, mask)


def hidden_cosine(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    r"""Compute one minus the cosine similarity, averaged over tokens and examples.

    .. math:: \frac{1}{N} \sum_n \frac{1}{\sum_l m_{nl}} \sum_l m_{nl}
       (1 - \cos(h^s_{nl}, h^t_{nl}))

    Sanh et al. 2019, "DistilBERT", section 3; its code (``distiller.py``) is
    ``CosineEmbeddingLoss`` with target 1, over all tokens of the batch at once.

    Args:
        student: ``(N, L, D)``, projected to the teacher's width.
        teacher: ``(N, L, D)``; no gradient flows into it.
        mask: ``(N, L)``, not 0 where a token counts; the denominator is the number of these.

    Returns:
        Scalar from 0 to 2.

    >>> import torch
    >>> student, teacher = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 3.0]]])
    >>> hidden_cosine(student, teacher, torch.ones(1, 1))
    tensor(1.)
    """
    cosine = F.cosine_similarity(student.float(), teacher.detach().float(), dim=-1)
    return mean_over_tokens(1 - cosine, mask)


def hidden_normalized_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    r"""Compute the squared error of unit vectors, averaged over width, tokens and examples.

    .. math:: \frac{1}{N} \sum_n \frac{1}{\sum_l m_{nl}} \sum_l m_{nl} \frac{1}{D}
       \left\| \frac{h^s_{nl}}{\|h^s_{nl}\|} - \frac{h^t_{nl}}{\|h^t_{nl}\|} \right\|^2

    Sun et al. 2019, "Patient Knowledge Distillation", eq. 7, there for the first token. The paper
    sums over the width, its code (intersun/PKD-for-BERT-Model-Compression, ``KD_loss.py``)
    averages, and its weights (10 to 1000) are those of the code: so is this function.

    Args:
        student: ``(N, L, D)``, projected to the teacher's width.
        teacher: ``(N, L, D)``; no gradient flows into it.
        mask: ``(N, L)``, not 0 where a token counts; the denominator is the number of these.

    Returns:
        Scalar from 0 to 4 / D.

    >>> import torch
    >>> student, teacher = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 3.0]]])
    >>> hidden_normalized_mse(student, teacher, torch.ones(1, 1))
    tensor(1.)
    """
    student = F.normalize(student.float(), dim=-1)
    teacher = F.normalize(teacher.detach().float(), dim=-1)
    return mean_over_tokens(F.mse_loss(student, teacher, reduction="none").mean(-1), mask)


def mean_over_tokens(values: Tensor, mask: Tensor) -> Tensor:
    """Average over each example's unmasked tokens, then over the examples.

    Args:
        values: ``(N, L)``.
        mask: ``(N, L)``, not 0 where a token counts.

    Returns:
        Scalar; an example without any unmasked token counts as 0.

    >>> import torch
    >>> mean_over_tokens(torch.tensor([[1.0, 3.0], [4.0, 9.0]]), torch.tensor([[1, 1], [1, 0]]))
    tensor(3.)
    """
    mask = (mask != 0).to(values.dtype)
    by_example = (values * mask).sum(-1) / mask.sum(-1).clamp(min=1)
    return by_example.mean()
