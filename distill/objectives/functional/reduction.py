"""Softened distributions and the reduction that the losses on logits have in common."""

import torch.nn.functional as F
from torch import Tensor

Temperature = float | Tensor
"""T > 0: a number, or one per example ``(N, 1)``. No gradient flows into it."""


def log_softmaxes(
    student_logits: Tensor, teacher_logits: Tensor, temperature: Temperature
) -> tuple[Tensor, Tensor]:
    """Return the log-probabilities of both models at a temperature, ``(N, C)`` in fp32.

    Logits are converted to fp32 first: gradients of these losses in bf16 are wrong by several
    percent.
    """
    student = F.log_softmax(student_logits.float() / temperature, dim=-1)
    teacher = F.log_softmax(teacher_logits.detach().float() / temperature, dim=-1)
    return student, teacher


def kl_by_class(log_p: Tensor, log_q: Tensor) -> Tensor:
    r"""Return the summands :math:`p_c (\log p_c - \log q_c)` of KL(p || q), not yet summed.

    Args:
        log_p: log-probabilities, any shape.
        log_q: log-probabilities of the same shape.
    """
    return F.kl_div(log_q, log_p, reduction="none", log_target=True)


def sum_classes_mean_examples(by_class: Tensor, temperature: Temperature) -> Tensor:
    r"""Sum over the classes, average over the N examples, and multiply by :math:`T^2`.

    The factor keeps the size of the gradient independent of the temperature (Hinton et al. 2015,
    section 2). With a temperature per example, each example has its own factor.

    Args:
        by_class: ``(N, C)``.
        temperature: T > 0.
    """
    if isinstance(temperature, Tensor):
        return (by_class * temperature**2).sum() / len(by_class)
    return by_class.sum() / len(by_class) * temperature**2
