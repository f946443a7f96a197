"""Gain over the control: combined over seeds, and corrected for the number of tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distill.metrics.statistics import holm, mean_interval, student_t_quantile
from distill.reporting.schema import Difference

NORMAL_95 = 1.959964  # the half-width of a 95 % interval in standard errors
MANY = 500  # degrees of freedom from which Student's t is the normal distribution


@dataclass
class Gain:
    """Metric of the student minus that of the control, with interval and p-value."""

    value: float
    low: float | None
    high: float | None
    p_value: float | None
    p_holm: float | None = None


def combine_gains(gains: Sequence[Difference]) -> Gain | None:
    r"""Combine the paired comparisons of several seeds into one gain; None without any.

    The mean of n gains :math:`g_i` has two sources of variance: training, seen as their spread
    :math:`s` over the seeds, and the choice of test examples, seen in each run's own interval
    (:math:`e_i`, its half-width over 1.96). All seeds are tested on the same examples, so the
    second does not become smaller with more seeds, and the variance of the mean is

    .. math:: v = s^2 / n + \frac{1}{n} \sum_i e_i^2

    with Welch and Satterthwaite's degrees of freedom, :math:`v^2 / ((s^2/n)^2 / (n-1))`, rounded
    down. Interval and p-value are those of Student's t with these degrees of freedom. That is
    conservative: the part of the examples' variance that seeds do not share is counted twice. A
    single run's gain is returned with the interval and the p-value of its own paired test.

    Args:
        gains: The gain over the control of each run; those without a value are left out.
    """
    measured = [(gain.value, gain) for gain in gains if gain.value is not None]
    if not measured:
        return None
    if len(measured) == 1:
        value, gain = measured[0]
        return Gain(value, gain.low, gain.high, gain.p_value)
    values = np.array([value for value, _ in measured], dtype=float)
    widths = np.array(
        [
            # No interval: the two models never differed, no resample of the examples can tell.
            0.0 if gain.low is None or gain.high is None else gain.high - gain.low
            for _, gain in measured
        ]
    )
    n = len(values)
    of_training = float(values.var(ddof=1)) / n
    variance = of_training + float(np.mean((widths / 2 / NORMAL_95) ** 2))
    mean = mean_interval(values.tolist()).value
    if variance == 0:
        return Gain(mean, mean, mean, 1.0 if mean == 0 else None)
    freedom = MANY
    if of_training > 0:
        freedom = min(MANY, math.floor((n - 1) * (variance / of_training) ** 2))
    error = math.sqrt(variance)
    half_width = student_t_quantile(0.975, freedom) * error
    p_value = student_t_p_value(mean / error, freedom)
    return Gain(mean, mean - half_width, mean + half_width, p_value)


def apply_holm_correction(gains: Sequence[Gain]) -> int:
    """Fill in ``p_holm`` of all gains that have a p-value; return their number."""
    tested = [(gain, gain.p_value) for gain in gains if gain.p_value is not None]
    adjusted = holm([p_value for _, p_value in tested])
    for (gain, _), p_holm in zip(tested, adjusted, strict=True):
        gain.p_holm = p_holm
    return len(tested)


def student_t_p_value(t: float, degrees_of_freedom: int) -> float:
    """Return the two-sided p-value of Student's t."""
    from scipy.special import stdtr  # slow to import, and not needed for a single run

    return min(1.0, 2 * float(stdtr(degrees_of_freedom, -abs(t))))
