"""Losses between attention, heads and all; ``mask`` ``(N, L)`` says which tokens exist.

Queries that are padding do not count and keys that are padding get no attention. Every example
weighs the same, whatever its length.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.objectives.functional.hidden_states import mean_over_tokens
from distill.objectives.functional.precision import fp32_matmul


def attention_scores(queries: Tensor, keys: Tensor) -> Tensor:
    r"""Scaled products before the softmax, :math:`Q K^T / \sqrt{d}`.

    Args:
        queries: ``(N, H, L, d)``.
        keys: ``(N, H, L, d)``.

    Returns:
        ``(N, H, L, L)`` in fp32.
    """
    return fp32_matmul(queries, keys.transpose(-1, -2)) / queries.shape[-1] ** 0.5


def attention_scores_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    r"""Squared error of the scores before the softmax, mean over heads and pairs of real tokens.

    Jiao et al. 2020, "TinyBERT", eq. 7: the scores themselves, for they converge faster than the
    maps. Its code sets masked scores to 0 and averages over them too, which makes the loss depend
    on how far a batch is padded; here only pairs of real tokens count.

    Args:
        student: ``(N, H, L, L)``.
        teacher: ``(N, H, L, L)``; no gradient flows into it.
        mask: ``(N, L)``.
    """
    error = F.mse_loss(student.float(), teacher.detach().float(), reduction="none").mean(1)
    mask = (mask != 0).to(error.dtype)
    by_query = (error * mask[:, None, :]).sum(-1) / mask.sum(-1, keepdim=True).clamp(min=1)
    return mean_over_tokens(by_query, mask)


def attention_kl(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    r"""Divergence of the maps, :math:`KL(A^t \| A^s)`, mean over heads and real queries.

    Wang et al. 2020, "MiniLM", eq. 6. The maps come from scores, so nothing is lost to a softmax
    that underflows.

    Args:
        student: scores ``(N, H, L, L)``, before the softmax.
        teacher: scores ``(N, H, L, L)``; no gradient flows into them.
        mask: ``(N, L)``.
    """
    student, teacher = (_log_maps(scores, mask) for scores in (student, teacher.detach()))
    divergence = F.kl_div(student, teacher, reduction="none", log_target=True)
    # Padded keys: probability exp(-huge) = 0 times a difference that is finite.
    return mean_over_tokens(divergence.sum(-1).mean(1), mask)


def relation_kl(student: Tensor, teacher: Tensor, mask: Tensor, heads: int) -> Tensor:
    r"""Divergence of the relations of queries (keys, values) among themselves.

    .. math:: \frac{1}{A_r |x|} \sum_{a=1}^{A_r} \sum_{t=1}^{|x|} KL(R^t_{at} \| R^s_{at}),
       \qquad R = \mathrm{softmax}(A A^T / \sqrt{d_r})

    Wang et al. 2021, "MiniLMv2", eq. 4 to 6; with values and the model's own heads it is the value
    relation of "MiniLM" (2020, eq. 8). All heads are joined and cut into ``heads`` relation heads,
    so teacher and student may have different widths and numbers of heads.

    Args:
        student: queries, keys or values, ``(N, H, L, d)``.
        teacher: the teacher's, ``(N, H', L, d')``; no gradient flows into it.
        mask: ``(N, L)``.
        heads: relation heads; must divide both widths.
    """
    relations = [_relations(vectors, heads) for vectors in (student, teacher.detach())]
    return attention_kl(*relations, mask)


def _relations(vectors: Tensor, heads: int) -> Tensor:
    count, _, length, _ = vectors.shape
    joined = vectors.transpose(1, 2).reshape(count, length, heads, -1).transpose(1, 2)
    return attention_scores(joined, joined)


def _log_maps(scores: Tensor, mask: Tensor) -> Tensor:
    lowest = torch.finfo(torch.float32).min
    scores = scores.float().masked_fill((mask == 0)[:, None, None, :], lowest)
    return F.log_softmax(scores, dim=-1)
