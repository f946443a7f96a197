"""Weights and temperatures that change during training.

A schedule may take the place of any weight or temperature of an objective. Schedules of time depend
on the training's progress, from 0 to 1, alone; adaptive ones (``adaptive = True``) compute a
temperature for each example from the logits of the batch.
"""

import math
from abc import ABC, abstractmethod
from typing import ClassVar, overload

import torch
from torch import Tensor

from distill.core.errors import UserError


class Schedule(ABC):
    """A weight or temperature as a function of the training's progress.

    Every constructor argument is an attribute of the same name.

    Attributes:
        adaptive: whether the value also depends on the logits and differs between examples. Such a
            schedule can be a temperature only.
    """

    adaptive: ClassVar[bool] = False

    @property
    @abstractmethod
    def bounds(self) -> tuple[float, ...]:
        """Values between which the schedule moves.

        Of an adaptive schedule: its minimum and its base value.
        """

    @abstractmethod
    def __call__(self, progress: float, *logits: Tensor) -> float | Tensor:
        """Return the current value.

        Args:
            progress: fraction of the training that is done, from 0 to 1.
            logits: of student and teacher, ``(N, C)`` each; used by adaptive schedules.

        Returns:
            A number; of an adaptive schedule ``(N, 1)``.
        """


class _Interpolation(Schedule):
    """Interpolates from ``start`` to ``end`` and is constant before and after.

    Args:
        start: value up to ``begin``.
        end: value from ``finish`` on.
        begin: fraction of the training at which the interpolation begins.
        finish: fraction of the training at which it ends.
    """

    def __init__(self, start: float, end: float, begin: float = 0.0, finish: float = 1.0):
        if not 0 <= begin < finish <= 1:
            raise UserError(
                f"a schedule with begin={begin} and finish={finish}: fractions of the training, "
                "0 <= begin < finish <= 1"
            )
        self.start, self.end, self.begin, self.finish = start, end, begin, finish

    @property
    def bounds(self) -> tuple[float, ...]:
        """``start`` and ``end``."""
        return (self.start, self.end)

    def __call__(self, progress: float, *logits: Tensor) -> float:
        """Return the value at this progress; logits are ignored."""
        fraction = min(1.0, max(0.0, (progress - self.begin) / (self.finish - self.begin)))
        return self.start + (self.end - self.start) * self._ease(fraction)

    @abstractmethod
    def _ease(self, fraction: float) -> float:
        """Map the fraction of the interpolation, from 0 to 1, to one of the way, from 0 to 1."""


class Linear(_Interpolation):
    """Linear interpolation.

    Args:
        start: value up to ``begin``.
        end: value from ``finish`` on.
        begin: fraction of the training at which the interpolation begins.
        finish: fraction of the training at which it ends.

    >>> Linear(4.0, 2.0)(0.25)
    3.5
    """

    def _ease(self, fraction: float) -> float:
        return fraction


class Cosine(_Interpolation):
    """Interpolation along half a cosine wave: slow, fast, slow.

    Args:
        start: value up to ``begin``.
        end: value from ``finish`` on.
        begin: fraction of the training at which the interpolation begins.
        finish: fraction of the training at which it ends.

    >>> Cosine(4.0, 2.0)(0.5)
    3.0
    """

    def _ease(self, fraction: float) -> float:
        return 0.5 * (1 - math.cos(math.pi * fraction))


class Constant(Schedule):
    """A constant value.

    Args:
        value: the value.
    """

    def __init__(self, value: float):
        self.value = value

    @property
    def bounds(self) -> tuple[float, ...]:
        """The value."""
        return (self.value,)

    def __call__(self, progress: float, *logits: Tensor) -> float:
        """Return the value."""
        return self.value


class Step(Schedule):
    """Piecewise constant values.

    Args:
        values: one value more than there are steps.
        at: increasing fractions of the training at which the next value applies.

    >>> Step([4.0, 2.0], [0.5])(0.5)
    2.0
    """

    def __init__(self, values: list[float], at: list[float]):
        if len(values) != len(at) + 1:
            raise UserError(
                f"a step schedule with {len(at)} steps needs {len(at) + 1} values, "
                f"{len(values)} are given"
            )
        if list(at) != sorted(at) or not all(0 <= step <= 1 for step in at):
            raise UserError(f"a step schedule with at={list(at)}: increasing fractions from 0 to 1")
        self.values, self.at = tuple(values), tuple(at)

    @property
    def bounds(self) -> tuple[float, ...]:
        """All values."""
        return self.values

    def __call__(self, progress: float, *logits: Tensor) -> float:
        """Return the value at this progress; logits are ignored."""
        return self.values[sum(progress >= step for step in self.at)]


class FLSW(Schedule):
    r"""Focal logit-wise temperature: lower where student and teacher disagree.

    .. math:: w_n = (1 - \cos(z^s_n, z^t_n))^\gamma, \qquad
       T_n = T_0 + \beta (\bar w - w_n)

    Wen, Lai and Qian 2019, "Preparing Lessons: Improve Knowledge Distillation with Better
    Supervision" (arXiv:1911.07471), in TextBrewer's form (``flsw_temperature_scheduler``).

    Args:
        base: temperature :math:`T_0`.
        beta: scale of the deviation from ``base``.
        gamma: exponent.
        lowest: minimum temperature; the formula itself may give 0 or less.
    """

    adaptive = True

    def __init__(
        self, base: float = 4.0, beta: float = 1.0, gamma: float = 1.0, lowest: float = 0.1
    ):
        _check_parameters(base, lowest, beta, gamma)
        self.base, self.beta, self.gamma, self.lowest = base, beta, gamma, lowest

    @property
    def bounds(self) -> tuple[float, ...]:
        """``lowest`` and ``base``."""
        return (self.lowest, self.base)

    def __call__(self, progress: float, *logits: Tensor) -> Tensor:
        """Return temperatures ``(N, 1)``; no gradient flows through them."""
        student, teacher = (_without_ruled_out(x.detach().float()) for x in logits)
        # A norm of 0 stays finite: TextBrewer adds the same constant to both norms.
        student = student / (student.norm(dim=-1, keepdim=True) + 1e-4)
        teacher = teacher / (teacher.norm(dim=-1, keepdim=True) + 1e-4)
        weight = (1 - (student * teacher).sum(-1, keepdim=True)).clamp(min=0) ** self.gamma
        return _around_mean(self.base, self.beta, weight, self.lowest)


class CWSM(Schedule):
    r"""Confidence-weighted temperature: lower where the student is not confident.

    .. math:: w_n = 1 / \max_c p^s_{nc}, \qquad T_n = T_0 + \beta (\bar w - w_n)

    Wen, Lai and Qian 2019 (arXiv:1911.07471), in TextBrewer's form
    (``cwsm_temperature_scheduler``).

    Args:
        base: temperature :math:`T_0`.
        beta: scale of the deviation from ``base``.
        lowest: minimum temperature; the formula itself may give 0 or less.
    """

    adaptive = True

    def __init__(self, base: float = 4.0, beta: float = 1.0, lowest: float = 0.1):
        _check_parameters(base, lowest, beta)
        self.base, self.beta, self.lowest = base, beta, lowest

    @property
    def bounds(self) -> tuple[float, ...]:
        """``lowest`` and ``base``."""
        return (self.lowest, self.base)

    def __call__(self, progress: float, *logits: Tensor) -> Tensor:
        """Return temperatures ``(N, 1)``; no gradient flows through them."""
        confidence = torch.softmax(logits[0].detach().float(), -1).amax(-1, keepdim=True)
        # TextBrewer's constant.
        weight = 1 / (confidence + 1e-3)
        return _around_mean(self.base, self.beta, weight, self.lowest)


def _without_ruled_out(logits: Tensor) -> Tensor:
    """Return logits whose minus infinities are 0, so that a norm is that of the others."""
    return logits.masked_fill(logits == -torch.inf, 0.0)


def _around_mean(base: float, beta: float, weight: Tensor, lowest: float) -> Tensor:
    return (base + beta * (weight.mean() - weight)).clamp(min=lowest)


def _check_parameters(base: float, lowest: float, beta: float, gamma: float = 0.0) -> None:
    if beta < 0 or gamma < 0:
        raise UserError(
            f"an adaptive temperature with beta={beta} and gamma={gamma}: both must be 0 or above"
        )
    if not 0 < lowest <= base:
        raise UserError(
            f"an adaptive temperature with lowest={lowest} and base={base}: 0 < lowest <= base"
        )


def schedule_bounds(value: float | Schedule) -> tuple[float, ...]:
    """Return the values between which a weight or temperature moves: a number is its own bound."""
    return value.bounds if isinstance(value, Schedule) else (value,)


@overload
def value_at(value: float | Schedule, progress: float) -> float: ...
@overload
def value_at(
    value: float | Schedule, progress: float, student_logits: Tensor, teacher_logits: Tensor
) -> float | Tensor: ...
def value_at(
    value: float | Schedule,
    progress: float,
    student_logits: Tensor | None = None,
    teacher_logits: Tensor | None = None,
) -> float | Tensor:
    """Return the current value of a weight or temperature.

    Args:
        value: a number or a schedule.
        progress: fraction of the training that is done, from 0 to 1.
        student_logits: ``(N, C)``; without logits the schedule must not be adaptive.
        teacher_logits: ``(N, C)``.

    >>> value_at(Linear(4.0, 2.0), 0.5)
    3.0
    """
    if not isinstance(value, Schedule):
        return value
    if student_logits is None or teacher_logits is None:
        return value(progress)
    return value(progress, student_logits, teacher_logits)
