"""Gain over the control: combined over seeds, and corrected for the number of tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from distill.metrics.resampling import ROUNDING, seeds_interval
from distill.metrics.statistics import holm
from distill.reporting.schema import Difference

NORMAL_95 = 1.959964  # the half-width of a 95 % interval in standard errors
# Quantiles of the normal distribution at equal steps, in place of resamples; of variance 1.
NORMAL_SAMPLE = np.array([NormalDist().inv_cdf((i + 0.5) / 200) for i in range(200)])
NORMAL_SAMPLE /= NORMAL_SAMPLE.std()


@dataclass
class Gain:
    """Metric of the student minus that of the control, with interval and p-value.

    Attributes:
        seeds: Number of seeds; a single one says nothing of the method.
        p_holm: The p-value, corrected for the number of tests.
    """

    value: float
    low: float | None
    high: float | None
    p_value: float | None
    seeds: int = 1
    p_holm: float | None = None

    @property
    def shows_teaching(self) -> bool:
        """Whether it may say anything of the method."""
        return self.seeds > 1


def combine_gains(gains: Sequence[Difference]) -> Gain | None:
    r"""Combine the paired comparisons of several seeds into one gain; None without any.

    The mean of n gains :math:`g_i` has two sources of variance: training, seen as their spread
    :math:`s` over the seeds, and the choice of test examples, seen in each run's own interval
    (:math:`e_i`, its half-width over 1.96). All seeds are tested on the same examples, so the
    second does not become smaller with more seeds. As in :func:`.resampling.seeds_interval`, the
    error of the mean is taken as

    .. math:: \frac{s}{\sqrt n}\, t_{n-1} + \sqrt{\tfrac{1}{n} \sum_i e_i^2}\; z

    There the part of the examples' variance that the seeds share is measured; of separate runs only
    its bound is known, a run's own whole variance. The interval is therefore wider than one of 95 %
    need be: it holds the truth in 96 to 100 % of the simulations in ``experiments/statistics``. A
    run of several seeds (``repeats``) has the narrower one.

    A single run's gain is returned with interval and p-value of its own test. Of one seed they
    compare two models and say nothing of the method.

    Args:
        gains: The gain over the control of each run; those without a value are left out.
    """
    measured = [(gain.value, gain) for gain in gains if gain.value is not None]
    if not measured:
        return None
    if len(measured) == 1:
        value, gain = measured[0]
        return Gain(value, gain.low, gain.high, gain.p_value, gain.seeds or 1)
    values = [value for value, _ in measured]
    widths = np.array(
        [
            # No interval: the two models never differed, no resample of the examples can tell.
            0.0 if gain.low is None or gain.high is None else gain.high - gain.low
            for _, gain in measured
        ]
    )
    seeds = sum(gain.seeds or 1 for _, gain in measured)
    of_examples = math.sqrt(float(np.mean((widths / 2 / NORMAL_95) ** 2)))
    if np.ptp(values) <= ROUNDING < of_examples:  # the normal distribution alone
        mean, half_width = float(np.mean(values)), NORMAL_95 * of_examples
        p_value = 2 * NormalDist().cdf(-abs(mean) / of_examples)
        return Gain(mean, mean - half_width, mean + half_width, p_value, seeds)
    found = seeds_interval(values, np.add.outer(values, of_examples * NORMAL_SAMPLE))
    if found.low is None:
        return Gain(found.value, found.value, found.value, 1.0 if found.value == 0 else None, seeds)
    return Gain(found.value, found.low, found.high, found.p_value, seeds)


def apply_holm_correction(gains: Sequence[Gain]) -> int:
    """Fill in ``p_holm`` of all gains that have a p-value; return their number."""
    tested = [(gain, gain.p_value) for gain in gains if gain.p_value is not None]
    adjusted = holm([p_value for _, p_value in tested])
    for (gain, _), p_holm in zip(tested, adjusted, strict=True):
        gain.p_holm = p_holm
    return len(tested)
