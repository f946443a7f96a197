"""Weights and temperatures that change while a training goes on.

A schedule stands wherever an objective has a weight or a temperature. It is called with the
training's progress, from 0 to 1, and with the logits of the batch; those that follow time alone
ignore the logits, the adaptive ones (``adaptive = True``) give each example its own temperature.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from distill.core.errors import UserError


class _Interpolation(ABC):
    """From ``start`` to ``end`` between two moments, constant before and after."""

    adaptive = False

    def __init__(self, start: float, end: float, begin: float = 0.0, finish: float = 1.0):
        if not 0 <= begin < finish <= 1:
            raise UserError(
                f"a schedule begins at {begin} and finishes at {finish}: shares of the training, "
                "0 <= begin < finish <= 1"
            )
        self.start, self.end, self.begin, self.finish = start, end, begin, finish

    @property
    def values(self) -> tuple[float, ...]:
        """The extremes it takes."""
        return (self.start, self.end)

    def __call__(self, progress: float, *_: Tensor) -> float:
        """The value when so much of the training is done."""
        done = min(1.0, max(0.0, (progress - self.begin) / (self.finish - self.begin)))
        return self.start + (self.end - self.start) * self._shape(done)

    @abstractmethod
    def _shape(self, done: float) -> float:
        """From 0 to 1 while ``done`` goes from 0 to 1."""


class Linear(_Interpolation):
    """A straight line.

    Args:
        start: value up to ``begin``.
        end: value from ``finish`` on.
        begin: share of the training after which it moves.
        finish: share of the training at which it arrives.
    """

    def _shape(self, done: float) -> float:
        return done


class Cosine(_Interpolation):
    """Half a wave of a cosine: slow, fast, slow. Arguments as :class:`Linear`."""

    def _shape(self, done: float) -> float:
        return 0.5 * (1 - math.cos(math.pi * done))


class Constant:
    """The same all along.

    Args:
        value: what it is.
    """

    adaptive = False

    def __init__(self, value: float):
        self.values = (value,)

    def __call__(self, progress: float, *_: Tensor) -> float:
        """The value."""
        return self.values[0]


class Step:
    """Jumps at given moments.

    Args:
        values: one more than there are moments.
        at: shares of the training, rising, at which the next value begins.
    """

    adaptive = False

    def __init__(self, values: list[float], at: list[float]):
        if len(values) != len(at) + 1:
            raise UserError(f"a step schedule with {len(at)} steps has {len(at) + 1} values")
        if list(at) != sorted(at) or not all(0 <= moment <= 1 for moment in at):
            raise UserError(f"a step schedule steps at {list(at)}: rising shares from 0 to 1")
        self.values, self.at = tuple(values), tuple(at)

    def __call__(self, progress: float, *_: Tensor) -> float:
        """The value when so much of the training is done."""
        return self.values[sum(progress >= moment for moment in self.at)]


class FLSW:
    r"""Focal logit-wise temperature: cooler where student and teacher disagree.

    .. math:: w_n = (1 - \cos(z^s_n, z^t_n))^\gamma, \qquad
       T_n = T_0 + \beta (\bar w - w_n)

    Wen, Lai and Qian 2019, "Preparing Lessons: Improve Knowledge Distillation with Better
    Supervision" (arXiv:1911.07471), in TextBrewer's form (``flsw_temperature_scheduler``).

    Args:
        base: the temperature around which it moves.
        beta: how far.
        gamma: exponent.
        lowest: no temperature is below it; the formula itself may give 0 or less.
    """

    adaptive = True

    def __init__(
        self, base: float = 4.0, beta: float = 1.0, gamma: float = 1.0, lowest: float = 0.1
    ):
        _check_parameters(base, lowest, beta, gamma)
        self.base, self.beta, self.gamma, self.lowest = base, beta, gamma, lowest

    def __call__(self, progress: float, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Temperatures ``(N, 1)`` from logits ``(N, C)``; no gradient flows through them."""
        student, teacher = (logits.detach().float() for logits in (student_logits, teacher_logits))
        # A norm of 0 stays finite: TextBrewer adds the same to both norms.
        student = student / (student.norm(dim=-1, keepdim=True) + 1e-4)
        teacher = teacher / (teacher.norm(dim=-1, keepdim=True) + 1e-4)
        weight = (1 - (student * teacher).sum(-1, keepdim=True)).clamp(min=0) ** self.gamma
        return (self.base + self.beta * (weight.mean() - weight)).clamp(min=self.lowest)


class CWSM:
    r"""Confidence-weighted temperature: cooler where the student is not sure.

    .. math:: w_n = 1 / \max_c p^s_{nc}, \qquad T_n = T_0 + \beta (\bar w - w_n)

    Wen, Lai and Qian 2019 (arXiv:1911.07471), in TextBrewer's form
    (``cwsm_temperature_scheduler``). Arguments as :class:`FLSW`, without the exponent.
    """

    adaptive = True

    def __init__(self, base: float = 4.0, beta: float = 1.0, lowest: float = 0.1):
        _check_parameters(base, lowest, beta)
        self.base, self.beta, self.lowest = base, beta, lowest

    def __call__(self, progress: float, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Temperatures ``(N, 1)`` from logits ``(N, C)``; no gradient flows through them."""
        confidence = torch.softmax(student_logits.detach().float(), -1).amax(-1, keepdim=True)
        weight = 1 / (confidence + 1e-3)
        return (self.base + self.beta * (weight.mean() - weight)).clamp(min=self.lowest)


Schedule = Linear | Cosine | Constant | Step | FLSW | CWSM


def _check_parameters(base: float, lowest: float, beta: float, gamma: float = 0.0) -> None:
    if beta < 0 or gamma < 0:
        raise UserError(f"an adaptive temperature: beta={beta}, gamma={gamma}: 0 or above")
    if not 0 < lowest <= base:
        raise UserError(f"an adaptive temperature: 0 < lowest={lowest} <= base={base} must hold")


def schedule_bounds(value: float | Schedule) -> tuple[float, ...]:
    """The numbers that a weight or temperature takes at most and at least."""
    if isinstance(value, FLSW | CWSM):
        return (value.lowest, value.base)
    return value.values if callable(value) else (value,)


def value_at(value: float | Schedule, progress: float, *logits: Tensor) -> float | Tensor:
    """What a weight or temperature is when so much of the training is done."""
    return value(progress, *logits) if callable(value) else value
