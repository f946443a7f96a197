"""Losses on how the examples of a batch relate to each other, from one vector an example.

They see the batch as a whole: a batch of one gives 0, and its split into micro-batches matters.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.objectives.functional.precision import fp32_matmul


def rkd_distance(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Huber loss between the pairwise distances, each set divided by its mean.

    Park et al. 2019, "Relational Knowledge Distillation", eq. 5 to 7; mean over all pairs, the
    diagonal included, as in its code.

    Args:
        student: ``(N, D)``.
        teacher: ``(N, D')``; no gradient flows into it.
    """
    if len(student) < 2:
        return student.float().sum() * 0.0
    return F.smooth_l1_loss(_distances(student.float()), _distances(teacher.detach().float()))


def rkd_angle(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Huber loss between the cosines of the angles of all triples, ``(N, D)`` and ``(N, D')``.

    Park et al. 2019, eq. 8 and 9; mean over all triples, as in its code. It takes
    :math:`O(N^2 D + N^3)` memory.
    """
    if len(student) < 2:
        return student.float().sum() * 0.0
    return F.smooth_l1_loss(_angles(student.float()), _angles(teacher.detach().float()))


def similarity_preserving(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Squared difference of the batch's similarity matrices, :math:`1/N^2 \|G^t - G^s\|_F^2`.

    :math:`G = X X^T` with each row at length 1 (Tung and Mori 2019, "Similarity-Preserving
    Knowledge Distillation", eq. 1 to 4), ``(N, D)`` and ``(N, D')``.
    """
    if not len(student):
        return student.float().sum() * 0.0
    grams = [F.normalize(fp32_matmul(x, x.T), dim=1) for x in (student, teacher.detach())]
    return F.mse_loss(*grams)


def _distances(vectors: Tensor) -> Tensor:
    squares = vectors.square().sum(1)
    squared = squares[:, None] + squares[None, :] - 2 * fp32_matmul(vectors, vectors.T)
    # The root's gradient at 0 is infinite: keep away from it, and off the diagonal.
    distances = squared.clamp(min=1e-12).sqrt()
    itself = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    distances = distances.masked_fill(itself, 0.0)
    positive = distances > 1e-5
    mean = distances.sum() / positive.sum().clamp(min=1)
    return distances / mean.clamp(min=1e-12)


def _angles(vectors: Tensor) -> Tensor:
    differences = vectors[None, :, :] - vectors[:, None, :]
    lengths = differences.norm(dim=2, keepdim=True)
    # Equal vectors have no direction, and no gradient: over a tiny length it would explode.
    near = lengths < 1e-6
    units = differences.masked_fill(near, 0.0) / lengths.masked_fill(near, 1.0)
    return fp32_matmul(units, units.transpose(1, 2))
