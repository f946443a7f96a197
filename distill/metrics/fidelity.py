"""How closely a student reproduces its teacher's predictions and distributions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from distill.metrics.base import Floats, as_aligned_arrays
from distill.metrics.classification import accuracy


def agreement(predictions: ArrayLike, teacher_predictions: ArrayLike) -> float:
    """Compute the fraction of examples for which two models predict the same class.

    The fidelity of Stanton et al. 2021 (eq. 2), whether or not the teacher is right. Both arrays
    are ``(N,)``.

    Raises:
        ValueError: no examples, or arrays of different lengths.

    >>> agreement([0, 1, 1, 2], [0, 1, 0, 2])
    0.75
    """
    return accuracy(predictions, teacher_predictions)


def log_softmax(logits: ArrayLike) -> Floats:
    """Compute the logarithm of the softmax over the last axis, ``(..., C)``, in float64.

    The maximum is subtracted first, so that no exponential overflows.

    >>> log_softmax([1000.0, 1000.0]).round(4).tolist()
    [-0.6931, -0.6931]
    """
    values: Floats = np.asarray(logits, dtype=np.float64)
    shifted: Floats = values - values.max(axis=-1, keepdims=True)
    log_sum: Floats = np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted - log_sum


def kl_divergence(teacher_logits: ArrayLike, student_logits: ArrayLike) -> float:
    r"""Compute KL(teacher || student) at temperature 1, averaged over the examples, in nats.

    .. math:: \frac{1}{N} \sum_i \sum_c p_{ic} (\log p_{ic} - \log q_{ic})

    with the teacher's p and the student's q; logits of shape ``(N, C)``. A class to which the
    teacher gives no probability (a logit of minus infinity) adds 0; one to which only the student
    gives none makes the divergence infinite.

    Raises:
        ValueError: no examples, or shapes that differ.

    >>> round(kl_divergence([[0.0, 0.0]], [[0.0, 1.0]]), 4)
    0.1201
    """
    teacher, student = as_aligned_arrays(teacher_logits, student_logits)
    if teacher.shape != student.shape:
        raise ValueError(f"logits of shapes {teacher.shape} and {student.shape} cannot be compared")
    teacher, student = log_softmax(teacher), log_softmax(student)
    possible = np.isfinite(teacher)
    gap = np.subtract(teacher, student, out=np.zeros_like(teacher), where=possible)
    return float((np.exp(teacher) * gap).sum(axis=-1).mean())


def bernoulli_divergence(teacher_logits: ArrayLike, student_logits: ArrayLike) -> float:
    r"""Compute the divergence of independent Bernoulli distributions, one per class, in nats.

    .. math:: \frac{1}{N} \sum_i \sum_c KL(\mathrm{B}(\sigma(z^t_{ic})) \|
       \mathrm{B}(\sigma(z^s_{ic})))

    with B the Bernoulli distribution and finite logits ``(N, C)``: for multi-label tasks.

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
        raise ValueError(f"logits of shapes {teacher.shape} and {student.shape} cannot be compared")
    # log sigmoid(z) = -log(1 + exp(-z)), without overflow
    log_p, log_not_p = -np.logaddexp(0, -teacher), -np.logaddexp(0, teacher)
    divergence = np.exp(log_p) * (log_p + np.logaddexp(0, -student))
    divergence += np.exp(log_not_p) * (log_not_p + np.logaddexp(0, student))
    return float(divergence.sum(axis=-1).mean())
