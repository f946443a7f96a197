"""Losses between the self-attention of two models; ``mask`` ``(N, L)`` marks the real tokens.

Queries that are padding do not count and keys that are padding get no attention. Every example has
the same weight, whatever its length.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.modeling.precision import attention_scores
from distill.objectives.functional.hidden_states import mean_over_tokens
from distill.objectives.functional.reduction import kl_by_class


def attention_scores_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    r"""Compute the squared error of scores before the softmax.

    .. math:: \frac{1}{N} \sum_n \frac{1}{H L_n^2} \sum_h \sum_{q, k \le L_n}
       (A^s_{nhqk} - A^t_{nhqk})^2

    with :math:`L_n` the number of real tokens (Jiao et al. 2020, "TinyBERT", eq. 7: of the scores,
    with which training converges faster than with the maps). The reference code
    (huawei-noah/Pretrained-Language-Model, ``task_distill.py``) sets masked scores to 0 and
    averages over them too, which makes the loss depend on how far a batch is padded; here only
    pairs of real tokens count.

    Args:
        student: scores ``(N, H, L, L)``.
        teacher: scores ``(N, H, L, L)``; no gradient flows into them.
        mask: ``(N, L)``.

    Returns:
        Scalar.

    >>> student, teacher = torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 3.0)
    >>> attention_scores_mse(student, teacher, torch.tensor([[1, 0]]))
    tensor(9.)
    """
    error = F.mse_loss(student.float(), teacher.detach().float(), reduction="none").mean(1)
    mask = (mask != 0).to(error.dtype)
    by_query = (error * mask[:, None, :]).sum(-1) / mask.sum(-1, keepdim=True).clamp(min=1)
    return mean_over_tokens(by_query, mask)


def attention_kl(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    r"""Compute the divergence of attention maps, averaged over heads and real queries.

    .. math:: \frac{1}{N} \sum_n \frac{1}{H L_n} \sum_h \sum_{q \le L_n}
       KL(A^t_{nhq} \| A^s_{nhq})

    Wang et al. 2020, "MiniLM", eq. 6 (no training code is published). The maps are computed from
    scores in log space, so that no probability underflows.

    Args:
        student: scores ``(N, H, L, L)``, before the softmax.
        teacher: scores ``(N, H, L, L)``; no gradient flows into them.
        mask: ``(N, L)``.

    Returns:
        Scalar in nats.

    >>> student = torch.tensor([[[[0.0, 0.0], [5.0, 5.0]]]])
    >>> teacher = torch.tensor([[[[2.0, 0.0], [5.0, 5.0]]]])
    >>> attention_kl(student, teacher, torch.tensor([[1, 1]]))
    tensor(0.1639)
    """
    student_maps, teacher_maps = _log_maps(student, mask), _log_maps(teacher.detach(), mask)
    # At padded keys: probability exp(-huge) = 0 times a finite difference.
    divergence = kl_by_class(teacher_maps, student_maps)
    return mean_over_tokens(divergence.sum(-1).mean(1), mask)


def relation_kl(student: Tensor, teacher: Tensor, mask: Tensor, heads: int) -> Tensor:
    r"""Compute the divergence of the relations of queries (keys, values) among themselves.

    .. math:: \frac{1}{A_r |x|} \sum_{a=1}^{A_r} \sum_{t=1}^{|x|} KL(R^t_{at} \| R^s_{at}),
       \qquad R = \mathrm{softmax}(A A^T / \sqrt{d_r})

    averaged over the examples. Wang et al. 2021, "MiniLMv2", eq. 4 to 6 (no training code is
    published); with values and the model's own heads it is the value relation of "MiniLM" (2020,
    eq. 8). All heads are concatenated and split into ``heads`` relation heads, so teacher and
    student may have different widths and numbers of heads.

    Args:
        student: queries, keys or values, ``(N, H, L, d)``.
        teacher: the teacher's, ``(N, H', L, d')``; no gradient flows into it.
        mask: ``(N, L)``.
        heads: number of relation heads; must divide both widths.

    Returns:
        Scalar in nats.

    >>> student, teacher = torch.zeros(1, 1, 2, 1), torch.tensor([[[[1.0], [0.0]]]])
    >>> relation_kl(student, teacher, torch.tensor([[1, 1]]), 1)
    tensor(0.0555)
    """
    return attention_kl(_relations(student, heads), _relations(teacher.detach(), heads), mask)


def _relations(vectors: Tensor, heads: int) -> Tensor:
    """Return the scaled products of relation heads, ``(N, heads, L, L)``."""
    count, _, length, _ = vectors.shape
    joined = vectors.transpose(1, 2).reshape(count, length, heads, -1).transpose(1, 2)
    return attention_scores(joined, joined)


def _log_maps(scores: Tensor, mask: Tensor) -> Tensor:
    """Return log-probabilities over the real keys, in fp32."""
    lowest = torch.finfo(torch.float32).min
    scores = scores.float().masked_fill((mask == 0)[:, None, None, :], lowest)
    return F.log_softmax(scores, dim=-1)
