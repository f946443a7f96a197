"""Decoupled knowledge distillation (DKD)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.objectives.functional.reduction import (
    Temperature,
    kl_by_class,
    log_softmaxes,
    sum_classes_mean_examples,
)


def decoupled_kd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    temperature: Temperature,
    target_weight: float = 1.0,
    non_target_weight: float = 8.0,
) -> Tensor:
    r"""Compute the divergences of target class and non-target classes, weighted separately.

    .. math:: \frac{T^2}{N} \sum_n
       \alpha\, KL(b^t_n \| b^s_n) + \beta\, KL(\hat p^t_n \| \hat p^s_n)

    with b the probabilities of the target class and of all others together, and
    :math:`\hat p` the distribution over the classes other than the target (Zhao et al. 2022,
    "Decoupled Knowledge Distillation", eq. 7; code: megvii-research/mdistiller, ``DKD.py``, which
    masks the target by subtracting 1000 from its logit; here it is excluded exactly).

    Args:
        student_logits: ``(N, C)``, C of 3 or more: with two classes the second part is always 0.
        teacher_logits: ``(N, C)``, at temperature 1; no gradient flows into them.
        target: ``(N,)``, the target class.
        temperature: T > 0, a number or ``(N, 1)``.
        target_weight: the paper's alpha.
        non_target_weight: the paper's beta; 8, 6 or 2 for its CIFAR-100 pairs, 0.5 to 2 on
            ImageNet.

    Returns:
        Scalar in nats; 0 where both distributions are equal.

    >>> student, teacher = torch.zeros(1, 3), torch.tensor([[2.0, 1.0, 0.0]])
    >>> decoupled_kd(student, teacher, torch.tensor([0]), 1.0)
    tensor(1.1166)
    """
    student, teacher = log_softmaxes(student_logits, teacher_logits, temperature)
    is_target = F.one_hot(target, student.shape[-1]).bool()
    parts = [_log_target_and_rest(logs, is_target) for logs in (student, teacher)]
    (student_pair, student_rest), (teacher_pair, teacher_rest) = parts
    divergence = target_weight * kl_by_class(teacher_pair, student_pair).sum(-1, keepdim=True)
    rest = kl_by_class(teacher_rest, student_rest)
    divergence = divergence + non_target_weight * rest.sum(-1, keepdim=True)
    return sum_classes_mean_examples(divergence, temperature)


def _log_target_and_rest(logs: Tensor, is_target: Tensor) -> tuple[Tensor, Tensor]:
    """Split log-probabilities ``(N, C)``.

    Returns:
        Of the target and of all other classes together, ``(N, 2)``; and of each class given that it
        is not the target, ``(N, C)``, 0 at the target.
    """
    lowest = torch.finfo(logs.dtype).min
    target = logs.masked_fill(~is_target, lowest).amax(-1, keepdim=True)
    others = torch.logsumexp(logs.masked_fill(is_target, lowest), -1, keepdim=True)
    return torch.cat([target, others], -1), (logs - others).masked_fill(is_target, 0.0)
