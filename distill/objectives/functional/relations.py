"""Losses on how the examples of a batch relate to each other, from one vector per example.

They depend on the batch as a whole: a batch of one gives 0, and splitting a batch into
micro-batches changes the result.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.modeling.precision import fp32_matmul


def rkd_distance(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Compute the Huber loss between pairwise distances, each set divided by its mean.

    .. math:: \frac{1}{N^2} \sum_{i, j} \ell_\delta\left(\frac{d^s_{ij}}{\mu^s},
       \frac{d^t_{ij}}{\mu^t}\right)

    Park et al. 2019, "Relational Knowledge Distillation", eq. 5 to 7; the mean is over all pairs
    including the diagonal, as in its code (lenscloth/RKD, ``metric/loss.py``).

    Args:
        student: ``(N, D)``.
        teacher: ``(N, D')``; no gradient flows into it.

    Returns:
        Scalar; 0 for a batch of one.

    >>> student, teacher = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[0.0], [1.0], [5.0]])
    >>> rkd_distance(student, teacher)
    tensor(0.0450)
    """
    if len(student) < 2:
        return student.float().sum() * 0.0
    return F.smooth_l1_loss(_distances(student.float()), _distances(teacher.detach().float()))


def rkd_angle(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Compute the Huber loss between the cosines of the angles of all triples.

    .. math:: \frac{1}{N^3} \sum_{i, j, k} \ell_\delta(\cos \angle s_i s_j s_k,
       \cos \angle t_i t_j t_k)

    Park et al. 2019, "Relational Knowledge Distillation", eq. 8 and 9; the mean is over all
    triples, as in its code (lenscloth/RKD, ``metric/loss.py``). Takes :math:`O(N^2 D + N^3)`
    memory.

    Args:
        student: ``(N, D)``.
        teacher: ``(N, D')``; no gradient flows into it.

    Returns:
        Scalar; 0 for a batch of one.

    >>> student, teacher = torch.eye(3), torch.tensor([[0.0], [1.0], [2.0]])
    >>> rkd_angle(student, teacher)
    tensor(0.0926)
    """
    if len(student) < 2:
        return student.float().sum() * 0.0
    return F.smooth_l1_loss(_angles(student.float()), _angles(teacher.detach().float()))


def similarity_preserving(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Compute the squared difference of the batch's similarity matrices.

    .. math:: \frac{1}{N^2} \|G^t - G^s\|_F^2

    with :math:`G = X X^T`, each row normalized to length 1 (Tung and Mori 2019,
    "Similarity-Preserving Knowledge Distillation", eq. 1 to 4; as in HobbitLong/RepDistiller,
    ``SP.py``).

    Args:
        student: ``(N, D)``.
        teacher: ``(N, D')``; no gradient flows into it.

    Returns:
        Scalar.

    >>> similarity_preserving(torch.eye(2), torch.ones(2, 1))
    tensor(0.2929)
    """
    if not len(student):
        return student.float().sum() * 0.0
    return F.mse_loss(_similarities(student), _similarities(teacher.detach()))


def _similarities(vectors: Tensor) -> Tensor:
    return F.normalize(fp32_matmul(vectors, vectors.T), dim=1)


def _distances(vectors: Tensor) -> Tensor:
    """Return the pairwise distances ``(N, N)`` divided by the mean of those above 0."""
    squares = vectors.square().sum(1)
    squared = squares[:, None] + squares[None, :] - 2 * fp32_matmul(vectors, vectors.T)
    # The gradient of the root is infinite at 0: clamp, and exclude the diagonal.
    distances = squared.clamp(min=1e-12).sqrt()
    diagonal = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    distances = distances.masked_fill(diagonal, 0.0)
    positive = distances > 1e-5
    mean = distances.sum() / positive.sum().clamp(min=1)
    return distances / mean.clamp(min=1e-12)


def _angles(vectors: Tensor) -> Tensor:
    """Return the cosines of the angles at j of all triples i, j, k, ``(N, N, N)`` by j, i, k."""
    differences = vectors[None, :, :] - vectors[:, None, :]
    lengths = differences.norm(dim=2, keepdim=True)
    # Equal vectors have no direction and no gradient: over a tiny length it would explode.
    near = lengths < 1e-6
    units = differences.masked_fill(near, 0.0) / lengths.masked_fill(near, 1.0)
    return fp32_matmul(units, units.transpose(1, 2))
