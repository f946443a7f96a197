"""Losses between feature maps ``(N, C, H, W)`` of convolutional networks."""

import torch.nn.functional as F
from torch import Tensor

from distill.modeling.precision import fp32_matmul


def attention_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Compute the squared difference of where two maps are active, averaged over positions.

    .. math:: \frac{1}{N H W} \sum_n \left\| \frac{Q^s_n}{\|Q^s_n\|_2} -
       \frac{Q^t_n}{\|Q^t_n\|_2} \right\|_2^2, \qquad
       Q_n = \mathrm{vec}\left(\frac{1}{C} \sum_c F_{nc}^2\right)

    Zagoruyko and Komodakis 2017, "Paying More Attention to Attention", eq. 2 with the mean of the
    squares and p = 2. The mean over positions is that of the reference code
    (szagoruyko/attention-transfer, ``utils.py``), where the paper has the norm.

    Args:
        student: ``(N, C, H, W)``.
        teacher: ``(N, C', H, W)``; no gradient flows into it.

    Returns:
        Scalar from 0 to 2 / (H W).

    >>> student = torch.tensor([[[[1.0, 0.0]]]])
    >>> attention_transfer(student, student.flip(-1))
    tensor(1.)
    """
    return F.mse_loss(_attention(student), _attention(teacher.detach()))


def hint(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Compute the squared error of maps, averaged over everything.

    .. math:: \frac{1}{N C H W} \| F^s - F^t \|^2

    Romero et al. 2015, "FitNets", eq. 3, as the mean that its successors' code takes
    (HobbitLong/RepDistiller, ``FitNet.py``).

    Args:
        student: ``(N, C, H, W)``, projected to the teacher's channels.
        teacher: ``(N, C, H, W)``; no gradient flows into it.

    Returns:
        Scalar.

    >>> hint(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 3.0))
    tensor(9.)
    """
    return F.mse_loss(student.float(), teacher.detach().float())


def probabilistic_knowledge_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Compute the divergence of whom the examples of a batch are near to.

    .. math:: \frac{1}{N^2} \sum_{i, j} p^t_{ij} \log \frac{p^t_{ij} + \epsilon}
       {p^s_{ij} + \epsilon}, \qquad
       p_{ij} = \frac{(\cos(x_i, x_j) + 1) / 2}{\sum_k (\cos(x_i, x_k) + 1) / 2}

    Passalis and Tefas 2018, "Learning Deep Representations with Probabilistic Knowledge Transfer",
    eq. 4, 5 and 8 with the cosine kernel; the mean, and that an example is near to itself, are
    those of the reference code (passalis/probabilistic_kt, ``nn/pkt.py``).

    Args:
        student: ``(N, D)``.
        teacher: ``(N, D')``; no gradient flows into it.

    Returns:
        Scalar; 0 for a batch of one.

    >>> probabilistic_knowledge_transfer(torch.eye(2), torch.eye(2))
    tensor(0.)
    """
    if not len(student):
        return student.float().sum() * 0.0
    own, given = _neighborhoods(student), _neighborhoods(teacher.detach())
    return (given * ((given + EPSILON) / (own + EPSILON)).log()).mean()


EPSILON = 1e-7
"""Added to probabilities before their logarithm, as in the reference code."""


def _attention(maps: Tensor) -> Tensor:
    return F.normalize(maps.float().square().mean(1).flatten(1), dim=1)


def _neighborhoods(vectors: Tensor) -> Tensor:
    units = F.normalize(vectors.float(), dim=1)
    near = (fp32_matmul(units, units.T) + 1.0) / 2.0
    return near / near.sum(1, keepdim=True)
