"""Divergences between the distributions of two models, other than the forward KL divergence.

Temperatures are numbers or one per example, ``(N, 1)``. No gradient flows into the teacher or the
temperature. Logits are converted to fp32 first.
"""

import torch
from torch import Tensor

from distill.objectives.functional.reduction import (
    Temperature,
    kl_by_class,
    log_softmaxes,
    sum_classes_mean_examples,
)


def reverse_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: Temperature) -> Tensor:
    r"""Compute the reverse Kullback-Leibler divergence.

    .. math:: \frac{T^2}{N} \sum_n KL(p^s_n \| p^t_n)

    It seeks modes of the teacher, where the forward divergence covers all of them (Gu et al. 2024,
    "MiniLLM", section 2.1; code: microsoft/LMOps, ``minillm``).

    Args:
        student_logits: ``(N, C)``.
        teacher_logits: ``(N, C)``, at temperature 1; no gradient flows into them.
        temperature: T > 0, a number or ``(N, 1)``.

    Returns:
        Scalar in nats; 0 where both distributions are equal.

    >>> reverse_kl(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]]), 2.0)
    tensor(0.4805)
    """
    student, teacher = log_softmaxes(student_logits, teacher_logits, temperature)
    return sum_classes_mean_examples(kl_by_class(student, teacher), temperature)


def jensen_shannon(
    student_logits: Tensor, teacher_logits: Tensor, temperature: Temperature, beta: float = 0.5
) -> Tensor:
    r"""Compute the generalized Jensen-Shannon divergence.

    .. math:: \frac{T^2}{N} \sum_n \beta\, KL(p^t_n \| m_n) + (1 - \beta)\, KL(p^s_n \| m_n),
       \qquad m = \beta p^t + (1 - \beta) p^s

    Agarwal et al. 2024, "GKD", section 2 (code: huggingface/trl, ``generalized_jsd_loss``). With
    ``beta=0.5`` it is symmetric, and at most :math:`T^2 \log 2`.

    Args:
        student_logits: ``(N, C)``.
        teacher_logits: ``(N, C)``, at temperature 1; no gradient flows into them.
        temperature: T > 0, a number or ``(N, 1)``.
        beta: weight of the teacher in the mixture, from 0 to 1.

    Returns:
        Scalar in nats; 0 where both distributions are equal.

    >>> jensen_shannon(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]]), 1.0)
    tensor(0.0895)
    """
    student, teacher = log_softmaxes(student_logits, teacher_logits, temperature)
    mixture = _log_mixture(teacher, student, beta)
    divergence = beta * kl_by_class(teacher, mixture) + (1 - beta) * kl_by_class(student, mixture)
    return sum_classes_mean_examples(divergence, temperature)


def skewed_kl(
    student_logits: Tensor, teacher_logits: Tensor, temperature: Temperature, skew: float = 0.1
) -> Tensor:
    r"""Compute the skewed Kullback-Leibler divergence.

    .. math:: \frac{T^2}{N} \sum_n KL(p^t_n \| \lambda p^t_n + (1 - \lambda) p^s_n)

    The mixture bounds the divergence and its gradient where the student gives a class no
    probability (Ko et al. 2024, "DistiLLM", section 3.1; code: jongwooko/distillm, ``losses.py``).

    Args:
        student_logits: ``(N, C)``.
        teacher_logits: ``(N, C)``, at temperature 1; no gradient flows into them.
        temperature: T > 0, a number or ``(N, 1)``.
        skew: weight of the teacher in the mixture, the paper's lambda (0.1 there).

    Returns:
        Scalar in nats; 0 where both distributions are equal.

    >>> skewed_kl(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]]), 1.0)
    tensor(0.2726)
    """
    student, teacher = log_softmaxes(student_logits, teacher_logits, temperature)
    divergence = kl_by_class(teacher, _log_mixture(teacher, student, skew))
    return sum_classes_mean_examples(divergence, temperature)


def skewed_reverse_kl(
    student_logits: Tensor, teacher_logits: Tensor, temperature: Temperature, skew: float = 0.1
) -> Tensor:
    r"""Compute the skewed reverse Kullback-Leibler divergence.

    .. math:: \frac{T^2}{N} \sum_n KL(p^s_n \| (1 - \lambda) p^t_n + \lambda p^s_n)

    Ko et al. 2024, "DistiLLM", section 3.1 (code: jongwooko/distillm, ``losses.py``).

    Args:
        student_logits: ``(N, C)``.
        teacher_logits: ``(N, C)``, at temperature 1; no gradient flows into them.
        temperature: T > 0, a number or ``(N, 1)``.
        skew: weight of the student in the mixture, the paper's lambda (0.1 there).

    Returns:
        Scalar in nats; 0 where both distributions are equal.

    >>> skewed_reverse_kl(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]]), 1.0)
    tensor(0.3173)
    """
    student, teacher = log_softmaxes(student_logits, teacher_logits, temperature)
    divergence = kl_by_class(student, _log_mixture(student, teacher, skew))
    return sum_classes_mean_examples(divergence, temperature)


def total_variation(
    student_logits: Tensor, teacher_logits: Tensor, temperature: Temperature
) -> Tensor:
    r"""Compute the total variation distance.

    .. math:: \frac{T}{2 N} \sum_n \sum_c |p^t_{nc} - p^s_{nc}|

    Wen et al. 2023, "f-Divergence Minimization for Sequence-Level Knowledge Distillation", use it
    between sequences. Its gradient shrinks with 1 / T, hence the factor T instead of its square.

    Args:
        student_logits: ``(N, C)``.
        teacher_logits: ``(N, C)``, at temperature 1; no gradient flows into them.
        temperature: T > 0, a number or ``(N, 1)``.

    Returns:
        Scalar from 0 to T.

    >>> total_variation(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]]), 1.0)
    tensor(0.3808)
    """
    student, teacher = log_softmaxes(student_logits, teacher_logits, temperature)
    distance = 0.5 * (teacher.exp() - student.exp()).abs().sum(-1, keepdim=True)
    return (distance * temperature).mean()


def _log_mixture(log_p: Tensor, log_q: Tensor, weight: float) -> Tensor:
    """Return the logarithm of ``weight * p + (1 - weight) * q``."""
    if weight in (0, 1):
        return log_p if weight else log_q
    share = torch.tensor(weight, device=log_p.device)
    return torch.logaddexp(log_p + share.log(), log_q + (1 - share).log())
