"""Correlations between two models' probabilities (DIST).

Huang et al. 2022, "Knowledge Distillation from A Stronger Teacher"; code: github.com/hunto/DIST_KD,
``dist_kd.py``.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.objectives.functional.reduction import (
    Temperature,
    log_softmaxes,
    sum_classes_mean_examples,
)


def inter_class_relation(
    student_logits: Tensor, teacher_logits: Tensor, temperature: Temperature
) -> Tensor:
    r"""Compute one minus Pearson's correlation over the classes, averaged over the examples.

    .. math:: \frac{T^2}{N} \sum_n 1 - \rho(p^s_{n \cdot}, p^t_{n \cdot})

    DIST, eq. 8.

    Args:
        student_logits: ``(N, C)``, C of 3 or more: with two classes it is 0 or 2, without gradient.
        teacher_logits: ``(N, C)``, at temperature 1; no gradient flows into them.
        temperature: T > 0, a number or ``(N, 1)``.

    Returns:
        Scalar from 0 to 2 T^2.

    >>> student, teacher = torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([[2.0, 1.0, 0.0]])
    >>> inter_class_relation(student, teacher, 1.0)
    tensor(1.2578)
    """
    student, teacher = log_softmaxes(student_logits, teacher_logits, temperature)
    return sum_classes_mean_examples(1 - _pearson(student.exp(), teacher.exp(), -1), temperature)


def intra_class_relation(
    student_logits: Tensor, teacher_logits: Tensor, temperature: Temperature
) -> Tensor:
    r"""Compute one minus Pearson's correlation over the examples, averaged over the classes.

    .. math:: \frac{T^2}{C} \sum_c 1 - \rho(p^s_{\cdot c}, p^t_{\cdot c})

    DIST, eq. 9. It relates the examples of a batch: splitting the batch changes it, and a batch of
    one gives 0.

    Args:
        student_logits: ``(N, C)``.
        teacher_logits: ``(N, C)``, at temperature 1; no gradient flows into them.
        temperature: T > 0, one for all examples.

    Returns:
        Scalar from 0 to 2 T^2.

    >>> student = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    >>> intra_class_relation(student, -student, 1.0)
    tensor(2.)
    """
    student, teacher = log_softmaxes(student_logits, teacher_logits, temperature)
    if len(student) < 2:
        return student.sum() * 0.0
    correlation = _pearson(student.exp(), teacher.exp(), 0).squeeze(0)
    return (1 - correlation).mean() * torch.as_tensor(temperature).float().mean() ** 2


def _pearson(x: Tensor, y: Tensor, dim: int) -> Tensor:
    """Return the correlation along a dimension, which is kept with size 1."""
    x, y = x - x.mean(dim, keepdim=True), y - y.mean(dim, keepdim=True)
    # The reference code adds the same constant to the denominator.
    return F.cosine_similarity(x, y, dim=dim, eps=1e-8).unsqueeze(dim)
