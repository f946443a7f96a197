"""Losses between the logits of a student and of a teacher, ``(N, C)`` each.

A temperature is a number or one for each example, ``(N, 1)``. No gradient flows into the teacher or
the temperature. Logits are raised to fp32 first: bf16 gradients of these losses are wrong by
several percent.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

Temperature = float | Tensor


def soft_target_kl(
    student_logits: Tensor, teacher_logits: Tensor, temperature: Temperature
) -> Tensor:
    r"""Kullback-Leibler divergence from the softened student to the softened teacher.

    .. math:: \frac{T^2}{N} \sum_{n=1}^{N} \sum_{c=1}^{C} p^t_{nc} (\log p^t_{nc} - \log p^s_{nc}),
       \qquad p = \mathrm{softmax}(z / T)

    The factor :math:`T^2` keeps the gradient's size independent of the temperature (Hinton,
    Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network", section 2). The mean is
    over the N examples only (``batchmean``), never over the classes.

    Args:
        student_logits: ``(N, C)``.
        teacher_logits: ``(N, C)``, at temperature 1; no gradient flows into them.
        temperature: T > 0.

    Returns:
        Scalar in nats, 0 where the two agree up to a constant.

    >>> import torch
    >>> soft_target_kl(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]]), 2.0)
    tensor(0.4438)
    """
    student, teacher = _log_softmaxes(student_logits, teacher_logits, temperature)
    return _mean(_kl(teacher, student), temperature)


def reverse_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: Temperature) -> Tensor:
    r"""Divergence with the roles exchanged, :math:`T^2 / N \sum_n KL(p^s_n \| p^t_n)`.

    It seeks the teacher's modes where the forward one covers them all (Gu et al. 2024, "MiniLLM",
    section 2.1).

    >>> reverse_kl(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]]), 2.0)
    tensor(0.4805)
    """
    student, teacher = _log_softmaxes(student_logits, teacher_logits, temperature)
    return _mean(_kl(student, teacher), temperature)


def jensen_shannon(
    student_logits: Tensor, teacher_logits: Tensor, temperature: Temperature, beta: float = 0.5
) -> Tensor:
    r"""Generalised Jensen-Shannon divergence (Agarwal et al. 2024, "GKD", section 2).

    .. math:: \beta\, KL(p^t \| m) + (1 - \beta)\, KL(p^s \| m),
       \qquad m = \beta p^t + (1 - \beta) p^s

    times :math:`T^2`. At ``beta=0.5`` it is the symmetric one, at most :math:`\log 2`.

    >>> jensen_shannon(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]]), 1.0)
    tensor(0.0895)
    """
    student, teacher = _log_softmaxes(student_logits, teacher_logits, temperature)
    middle = _log_mix(teacher, student, beta)
    divergence = beta * _kl(teacher, middle) + (1 - beta) * _kl(student, middle)
    return _mean(divergence, temperature)


def skewed_kl(
    student_logits: Tensor, teacher_logits: Tensor, temperature: Temperature, skew: float = 0.1
) -> Tensor:
    r"""Skewed divergence, :math:`KL(p^t \| \lambda p^t + (1 - \lambda) p^s)`, times :math:`T^2`.

    The mixture keeps it, and its gradient, bounded where the student gives a class no probability
    (Ko et al. 2024, "DistiLLM", section 3.1, where 0.1 is the skew).

    >>> skewed_kl(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]]), 1.0)
    tensor(0.2726)
    """
    student, teacher = _log_softmaxes(student_logits, teacher_logits, temperature)
    return _mean(_kl(teacher, _log_mix(teacher, student, skew)), temperature)


def skewed_reverse_kl(
    student_logits: Tensor, teacher_logits: Tensor, temperature: Temperature, skew: float = 0.1
) -> Tensor:
    r"""Skewed reverse divergence, :math:`KL(p^s \| (1 - \lambda) p^t + \lambda p^s)`.

    Times :math:`T^2` (Ko et al. 2024, "DistiLLM", section 3.1).

    >>> skewed_reverse_kl(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]]), 1.0)
    tensor(0.3173)
    """
    student, teacher = _log_softmaxes(student_logits, teacher_logits, temperature)
    return _mean(_kl(student, _log_mix(student, teacher, skew)), temperature)


def total_variation(
    student_logits: Tensor, teacher_logits: Tensor, temperature: Temperature
) -> Tensor:
    r"""Total variation distance, :math:`T / (2 N) \sum_n \sum_c |p^t_{nc} - p^s_{nc}|`.

    Used between sequences by Wen et al. 2023, "f-Divergence Minimization for Sequence-Level
    Knowledge Distillation". Its gradient shrinks with 1 / T, hence the factor T.

    >>> total_variation(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]]), 1.0)
    tensor(0.3808)
    """
    student, teacher = _log_softmaxes(student_logits, teacher_logits, temperature)
    distance = 0.5 * (teacher.exp() - student.exp()).abs().sum(-1, keepdim=True)
    return (distance * temperature).mean()


def soft_cross_entropy(
    student_logits: Tensor, teacher_logits: Tensor, temperature: Temperature
) -> Tensor:
    r"""Cross-entropy against the softened teacher, :math:`-T^2 / N \sum_n \sum_c p^t \log p^s`.

    The divergence of :func:`soft_target_kl` plus the teacher's entropy: the same gradient (Hinton
    et al. 2015; TinyBERT's prediction-layer loss, Jiao et al. 2020, eq. 10, at T = 1).

    >>> soft_cross_entropy(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]]), 1.0)
    tensor(0.6931)
    """
    student, teacher = _log_softmaxes(student_logits, teacher_logits, temperature)
    return _mean(-teacher.exp() * student, temperature)


def hard_teacher_labels(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Cross-entropy against the class that the teacher chooses.

    "Hard-label distillation" of Touvron et al. 2021 (DeiT, eq. 3).

    >>> hard_teacher_labels(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]]))
    tensor(0.6931)
    """
    return F.cross_entropy(student_logits.float(), teacher_logits.detach().argmax(-1))


def logits_mse(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    r"""Mean squared error between the logits, :math:`1 / (N C) \sum (z^s - z^t)^2`.

    Ba and Caruana 2014, "Do Deep Nets Really Need to be Deep?", eq. 1; Kim et al. 2021, "Comparing
    Kullback-Leibler Divergence and Mean Squared Error Loss in Knowledge Distillation", who find
    it at least as good as the divergence. Unlike that, it sees a constant added to all logits.

    >>> logits_mse(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]]))
    tensor(2.)
    """
    return F.mse_loss(student_logits.float(), teacher_logits.detach().float())


def binary_soft_target_kl(
    student_logits: Tensor, teacher_logits: Tensor, temperature: Temperature
) -> Tensor:
    r"""The divergence where every class is a yes or no of its own (multi-label).

    .. math:: \frac{T^2}{N} \sum_n \sum_c KL(\mathrm{B}(\sigma(z^t_{nc} / T)) \|
       \mathrm{B}(\sigma(z^s_{nc} / T)))

    with B the Bernoulli distribution: the sigmoid form of :func:`soft_target_kl`, a sum over
    classes as there (Yang et al. 2023, "Multi-Label Knowledge Distillation", eq. 3, at T = 1).

    >>> binary_soft_target_kl(torch.tensor([[0.0]]), torch.tensor([[2.0]]), 1.0)
    tensor(0.3278)
    """
    student = student_logits.float() / temperature
    teacher = teacher_logits.detach().float() / temperature
    yes, no = F.logsigmoid(teacher), F.logsigmoid(-teacher)
    divergence = yes.exp() * (yes - F.logsigmoid(student))
    divergence = divergence + no.exp() * (no - F.logsigmoid(-student))
    return _mean(divergence, temperature)


def decoupled_kd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    temperature: Temperature,
    target_weight: float = 1.0,
    non_target_weight: float = 8.0,
) -> Tensor:
    r"""Decoupled distillation (Zhao et al. 2022, "Decoupled Knowledge Distillation", eq. 7).

    .. math:: T^2 (\alpha\, KL(b^t \| b^s) + \beta\, KL(\hat p^t \| \hat p^s))

    with b the probabilities of the target class and of all others together, and
    :math:`\hat p` the distribution over the classes but the target.

    Args:
        student_logits: ``(N, C)``, C of 3 or more: with two classes the second part is always 0.
        teacher_logits: ``(N, C)``.
        target: ``(N,)``, the target class.
        temperature: T > 0.
        target_weight: the paper's alpha.
        non_target_weight: the paper's beta; 8, 6 or 2 for its CIFAR-100 pairs, 0.5 to 2 on
            ImageNet.
    """
    student, teacher = _log_softmaxes(student_logits, teacher_logits, temperature)
    chosen = F.one_hot(target, student.shape[-1]).bool()
    parts = [_log_target_and_rest(logs, chosen) for logs in (student, teacher)]
    (student_pair, student_rest), (teacher_pair, teacher_rest) = parts
    divergence = target_weight * _kl(teacher_pair, student_pair).sum(-1, keepdim=True)
    rest = _kl(teacher_rest, student_rest).masked_fill(chosen, 0.0)
    divergence = divergence + non_target_weight * rest.sum(-1, keepdim=True)
    return _mean(divergence, temperature)


def inter_class_relation(
    student_logits: Tensor, teacher_logits: Tensor, temperature: Temperature
) -> Tensor:
    r"""One minus Pearson's correlation over the classes, mean over examples, times :math:`T^2`.

    Huang et al. 2022, "Knowledge Distillation from A Stronger Teacher" (DIST), eq. 8. With two
    classes it is 0 or 2 and has no gradient.
    """
    student, teacher = _log_softmaxes(student_logits, teacher_logits, temperature)
    return _mean(1 - _pearson(student.exp(), teacher.exp(), -1), temperature)


def intra_class_relation(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float
) -> Tensor:
    r"""One minus Pearson's correlation over the examples, mean over classes, times :math:`T^2`.

    DIST, eq. 9. It relates the examples of a batch: a batch of one gives 0, and splitting a batch
    changes it.
    """
    student, teacher = _log_softmaxes(student_logits, teacher_logits, temperature)
    if len(student) < 2:
        return student.sum() * 0.0
    correlation = _pearson(student.exp(), teacher.exp(), 0).squeeze(0)
    return (1 - correlation).mean() * torch.as_tensor(temperature).float().mean() ** 2


def standardize(logits: Tensor) -> Tensor:
    r"""Logits with mean 0 and standard deviation 1 over the classes, ``(N, C)``.

    Sun et al. 2024, "Logit Standardization in Knowledge Distillation", algorithm 1: the student
    need not match the teacher's shift and scale. Where all logits of an example are equal, 0.
    """
    logits = logits.float()
    deviation = logits.std(-1, keepdim=True)
    # The reference code adds 1e-7 to the deviation as well.
    return (logits - logits.mean(-1, keepdim=True)) / (deviation + 1e-7)


def _log_softmaxes(
    student_logits: Tensor, teacher_logits: Tensor, temperature: Temperature
) -> tuple[Tensor, Tensor]:
    student = F.log_softmax(student_logits.float() / temperature, dim=-1)
    teacher = F.log_softmax(teacher_logits.detach().float() / temperature, dim=-1)
    return student, teacher


def _kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) from logarithms, class by class."""
    return F.kl_div(q, p, reduction="none", log_target=True)


def _mean(by_class: Tensor, temperature: Temperature) -> Tensor:
    """Sum over the classes, mean over the examples, times T^2."""
    if isinstance(temperature, Tensor):
        return (by_class * temperature**2).sum() / len(by_class)
    return by_class.sum() / len(by_class) * temperature**2


def _log_mix(p: Tensor, q: Tensor, share: float) -> Tensor:
    """The logarithm of share p + (1 - share) q."""
    if share in (0, 1):
        return p if share else q
    share = torch.tensor(share, device=p.device)
    return torch.logaddexp(p + share.log(), q + (1 - share).log())


def _log_target_and_rest(logs: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Of the target and of all others together, ``(N, 2)``; and of each other one, ``(N, C)``."""
    lowest = torch.finfo(logs.dtype).min
    target = logs.masked_fill(~chosen, lowest).amax(-1, keepdim=True)
    others = torch.logsumexp(logs.masked_fill(chosen, lowest), -1, keepdim=True)
    return torch.cat([target, others], -1), logs - others


def _pearson(x: Tensor, y: Tensor, dim: int) -> Tensor:
    x, y = x - x.mean(dim, keepdim=True), y - y.mean(dim, keepdim=True)
    return F.cosine_similarity(x, y, dim=dim, eps=1e-8).unsqueeze(dim)
