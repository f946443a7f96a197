"""Losses against the teacher's logits as the target, ``(N, C)`` each.

Temperatures are numbers or one per example, ``(N, 1)``. No gradient flows into the teacher or the
temperature. Logits are converted to fp32 first.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.objectives.functional.reduction import (
    Temperature,
    finite_logits,
    kl_by_class,
    log_softmaxes,
    sum_classes_mean_examples,
)


def soft_target_kl(
    student_logits: Tensor, teacher_logits: Tensor, temperature: Temperature
) -> Tensor:
    r"""Compute the Kullback-Leibler divergence of the student from the softened teacher.

    .. math:: \frac{T^2}{N} \sum_{n=1}^{N} \sum_{c=1}^{C} p^t_{nc} (\log p^t_{nc} - \log p^s_{nc}),
       \qquad p = \mathrm{softmax}(z / T)

    The factor :math:`T^2` keeps the size of the gradient independent of the temperature (Hinton,
    Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network", section 2). The mean is
    over the N examples only (``reduction="batchmean"`` of :func:`torch.nn.functional.kl_div`),
    never over the classes.

    Args:
        student_logits: ``(N, C)``.
        teacher_logits: ``(N, C)``, at temperature 1; no gradient flows into them.
        temperature: T > 0, a number or ``(N, 1)``.

    Returns:
        Scalar in nats; 0 where both logits are equal up to a constant.

    >>> soft_target_kl(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]]), 2.0)
    tensor(0.4438)
    """
    student, teacher = log_softmaxes(student_logits, teacher_logits, temperature)
    return sum_classes_mean_examples(kl_by_class(teacher, student), temperature)


def binary_soft_target_kl(
    student_logits: Tensor, teacher_logits: Tensor, temperature: Temperature
) -> Tensor:
    r"""Compute the divergence between independent Bernoulli distributions, one per class.

    .. math:: \frac{T^2}{N} \sum_n \sum_c KL(\mathrm{B}(\sigma(z^t_{nc} / T)) \|
       \mathrm{B}(\sigma(z^s_{nc} / T)))

    The form of :func:`soft_target_kl` for multi-label classification; a sum over the classes as
    there (Yang et al. 2023, "Multi-Label Knowledge Distillation", eq. 3, at T = 1; code:
    github.com/penghui-yang/L2D, ``logits_based/mld.py``).

    Args:
        student_logits: ``(N, C)``.
        teacher_logits: ``(N, C)``, at temperature 1; no gradient flows into them.
        temperature: T > 0, a number or ``(N, 1)``.

    Returns:
        Scalar in nats.

    >>> binary_soft_target_kl(torch.tensor([[0.0]]), torch.tensor([[2.0]]), 1.0)
    tensor(0.3278)
    """
    student = finite_logits(student_logits) / temperature
    teacher = finite_logits(teacher_logits.detach()) / temperature
    log_p, log_not_p = F.logsigmoid(teacher), F.logsigmoid(-teacher)
    divergence = log_p.exp() * (log_p - F.logsigmoid(student))
    divergence = divergence + log_not_p.exp() * (log_not_p - F.logsigmoid(-student))
    return sum_classes_mean_examples(divergence, temperature)


def soft_cross_entropy(
    student_logits: Tensor, teacher_logits: Tensor, temperature: Temperature
) -> Tensor:
    r"""Compute the cross-entropy against the softened teacher.

    .. math:: -\frac{T^2}{N} \sum_n \sum_c p^t_{nc} \log p^s_{nc}

    That is :func:`soft_target_kl` plus the teacher's entropy, with the same gradient (Hinton et al.
    2015, section 2). TinyBERT's loss on the prediction layer (Jiao et al. 2020, eq. 10, at T = 1;
    its code, ``soft_cross_entropy`` of ``task_distill.py``, averages over the classes too).

    Args:
        student_logits: ``(N, C)``.
        teacher_logits: ``(N, C)``, at temperature 1; no gradient flows into them.
        temperature: T > 0, a number or ``(N, 1)``.

    Returns:
        Scalar in nats; at least the teacher's entropy times T^2.

    >>> soft_cross_entropy(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]]), 1.0)
    tensor(0.6931)
    """
    student, teacher = log_softmaxes(student_logits, teacher_logits, temperature)
    return sum_classes_mean_examples(-teacher.exp() * student, temperature)


def hard_teacher_labels(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    r"""Compute the cross-entropy against the class that the teacher predicts.

    .. math:: -\frac{1}{N} \sum_n \log p^s_{n y_n}, \qquad y_n = \arg\max_c z^t_{nc}

    "Hard-label distillation" of Touvron et al. 2021 (DeiT, eq. 3; code: facebookresearch/deit,
    ``losses.py``). Without temperature.

    Args:
        student_logits: ``(N, C)``.
        teacher_logits: ``(N, C)``, at temperature 1; no gradient flows into them.

    Returns:
        Scalar in nats.

    >>> hard_teacher_labels(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]]))
    tensor(0.6931)
    """
    return F.cross_entropy(finite_logits(student_logits), teacher_logits.detach().argmax(-1))


def logits_mse(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    r"""Compute the mean squared error of the logits, over examples and classes.

    .. math:: \frac{1}{N C} \sum_n \sum_c (z^s_{nc} - z^t_{nc})^2

    Ba and Caruana 2014, "Do Deep Nets Really Need to be Deep?", eq. 1; Kim et al. 2021, "Comparing
    Kullback-Leibler Divergence and Mean Squared Error Loss in Knowledge Distillation" (code:
    github.com/jhoon-oh/kd_data), who find it at least as good as the divergence. Unlike the
    divergence, it depends on a constant added to all logits. Without temperature. A logit of minus
    infinity in either model is no number to be near to: it adds 0 to the sum, but counts in C.

    Args:
        student_logits: ``(N, C)``.
        teacher_logits: ``(N, C)``, at temperature 1; no gradient flows into them.

    Returns:
        Scalar; also for regression, where C is 1.

    >>> logits_mse(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]]))
    tensor(2.)
    """
    student, teacher = student_logits.float(), teacher_logits.detach().float()
    ruled_out = (student == -torch.inf) | (teacher == -torch.inf)
    return F.mse_loss(student.masked_fill(ruled_out, 0.0), teacher.masked_fill(ruled_out, 0.0))


def standardize(logits: Tensor) -> Tensor:
    r"""Standardize logits to mean 0 and standard deviation 1 over the classes.

    .. math:: \frac{z_{nc} - \bar z_n}{s_n}

    with the sample standard deviation s (Sun et al. 2024, "Logit Standardization in Knowledge
    Distillation", algorithm 1; code: github.com/sunshangquan/logit-standardization-KD,
    ``normalize``): the student need not match the teacher's shift and scale.

    Args:
        logits: ``(N, C)``; where all logits of an example are equal, the result is 0. Those of
            minus infinity stay so, and mean and deviation are of the others.

    Returns:
        ``(N, C)`` in fp32.

    >>> standardize(torch.tensor([[1.0, 2.0, 3.0]]))
    tensor([[-1.0000,  0.0000,  1.0000]])
    """
    logits = logits.float()
    ruled_out = logits == -torch.inf
    if ruled_out.any():
        count = (~ruled_out).sum(-1, keepdim=True)
        mean = logits.masked_fill(ruled_out, 0.0).sum(-1, keepdim=True) / count.clamp(min=1)
        error = (logits - mean).masked_fill(ruled_out, 0.0)
        squares = error.square().sum(-1, keepdim=True) / (count - 1).clamp(min=1)
        # The gradient of the root is infinite at 0.
        deviation = squares.clamp(min=1e-14).sqrt()
        return (error / (deviation + 1e-7)).masked_fill(ruled_out, -torch.inf)
    deviation = logits.std(-1, keepdim=True)
    # The reference code adds 1e-7 to the deviation as well.
    return (logits - logits.mean(-1, keepdim=True)) / (deviation + 1e-7)
