"""Pure loss mathematics: tensors in, scalar out. Everything is computed in fp32."""

import torch.nn.functional as F
from torch import Tensor


def soft_target_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    r"""Kullback-Leibler divergence from the softened student to the softened teacher.

    .. math:: \frac{T^2}{N} \sum_{n=1}^{N} \sum_{c=1}^{C} p^t_{nc} (\log p^t_{nc} - \log p^s_{nc}),
       \qquad p = \mathrm{softmax}(z / T)

    The factor :math:`T^2` keeps the gradient's size independent of the temperature (Hinton,
    Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network", section 2). The mean is
    over the N examples only (``batchmean``), never over the classes. Both logits are raised to
    fp32 first: bf16 gradients of this loss are wrong by several percent.

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
    student = F.log_softmax(student_logits.float() / temperature, dim=-1)
    teacher = F.log_softmax(teacher_logits.detach().float() / temperature, dim=-1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2
