"""distill.metrics.fidelity"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from distill.metrics.base import Floats, as_aligned_arrays
from distill.metrics.classification import accuracy


def agreement(predictions: ArrayLike, teacher_predictions: ArrayLike) -> float:
    """Share of the examples on which two models predict the same class; two arrays ``(N,)``.

    The fidelity of Stanton et al. 2021 (eq. 2), whether or not the teacher is right.

    Raises:
        ValueError: no examples, or arrays of different lengths.

    >>> agreement([0, 1, 1, 2], [0, 1, 0, 2])
    0.75
    """
    return accuracy(predictions, teacher_predictions)


def log_softmax(logits: ArrayLike) -> Floats:
    """Logarithm of the softmax over the last axis, in float64; shape ``(..., C)`` is kept.

    The maximum is subtracted first, so that no exponential overflows.

    >>> log_softmax([1000.0, 1000.0]).round(4).tolist()
    [-0.6931, -0.6931]
    """
    logits = np.asarray(logits, dtype=np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def kl_divergence(teacher_logits: ArrayLike, student_logits: ArrayLike) -> float:
    r"""Mean over the examples of KL(teacher || student) at temperature 1, in nats.

    .. math:: \frac{1}{N} \sum_i \sum_c p_{ic} (\log p_{ic} - \log q_{ic})

    with the teacher's p and the student's q; logits of shape ``(N, C)``. A class to which the
    teacher gives no probability (a logit of minus infinity) adds 0; one that only the student
    rules out makes the divergence infinite.

    Raises:
        ValueError: no examples, or shapes that differ.

    >>> round(kl_divergence([[0.0, 0.0]], [[0.0, 1.0]]), 4)
    0.1201
    """
    teacher, student = as_aligned_arrays(teacher_logits, student_logits)
    if teacher.shape != student.shape:
        raise ValueError(f"logits of shapes {teacher.shape} and {student.shape} do not compare")
    teacher, student = log_softmax(teacher), log_softmax(student)
    possible = np.isfinite(teacher)
    gap = np.subtract(teacher, student, out=np.zeros_like(teacher), where=possible)
    return float((np.exp(teacher) * gap).sum(axis=-1).mean())


def bernoulli_divergence(teacher_logits: ArrayLike, student_logits: ArrayLike) -> float:
    r"""Mean over the examples of the divergences of each class's yes or no, summed, in nats.

    .. math:: \frac{1}{N} \sum_i \sum_c KL(\mathrm{B}(\sigma(z^t_{ic})) \|
       \mathrm{B}(\sigma(z^s_{ic})))

    with B the Bernoulli distribution and finite logits ``(N, C)``.

    Raises:
        ValueError: no examples, or shapes that differ.

    >>> round(bernoulli_divergence([[2.0]], [[0.0]]), 4)
    0.3278
    """
    teacher, student = (
        np.asarray(logits, dtype=np.float64)
        for logits in as_aligned_arrays(teacher_logits, student_logits)
    )
    if teacher.shape != student.shape:
        raise ValueError(f"logits of shapes {teacher.shape} and {student.shape} do not compare")
    # log sigmoid(z) = -log(1 + exp(-z)), without overflow
    yes, no = -np.logaddexp(0, -teacher), -np.logaddexp(0, teacher)
    divergence = np.exp(yes) * (yes + np.logaddexp(0, -student))
    divergence += np.exp(no) * (no + np.logaddexp(0, student))
    return float(divergence.sum(axis=-1).mean())
