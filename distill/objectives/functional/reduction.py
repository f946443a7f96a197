"""Softened distributions and the reduction that the losses on logits have in common."""

import torch
import torch.nn.functional as F
from torch import Tensor

Temperature = float | Tensor
"""T > 0: a number, or one per example ``(N, 1)``. No gradient flows into it."""


RULED_OUT = -1e30
"""Logit that stands for minus infinity: probability 0, and no NaN from 0 times infinity."""


def finite_logits(logits: Tensor) -> Tensor:
    """Return logits in fp32 in which those of minus infinity are :data:`RULED_OUT`.

    Such a class has the probability 0 and gets no gradient. A divergence is 0 in a class that both
    models rule out, and very large, but finite, where only the second one does.
    """
    logits = logits.float()
    return logits.masked_fill(logits == -torch.inf, RULED_OUT)


def log_softmaxes(
    student_logits: Tensor, teacher_logits: Tensor, temperature: Temperature
) -> tuple[Tensor, Tensor]:
    """Return the log-probabilities of both models at a temperature, ``(N, C)`` in fp32.

    Logits are converted to fp32 first: gradients of these losses in bf16 are wrong by several
    percent. Logits of minus infinity are those of :func:`finite_logits`.
    """
    student = F.log_softmax(finite_logits(student_logits) / temperature, dim=-1)
    teacher = F.log_softmax(finite_logits(teacher_logits.detach()) / temperature, dim=-1)
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
