import math

import numpy as np
import pytest
from scipy import stats

from distill.reporting.gain import (
    apply_holm_correction,
    combine_gains,
)
from distill.reporting.schema import Difference


def gain(value, half_width=0.01, p_value=0.5):
    return Difference(value, value - half_width, value + half_width, p_value)


def test_one_run_is_passed_on():
    one = combine_gains([Difference(0.01, -0.002, 0.021, 0.09)])
    assert (one.value, one.low, one.high, one.p_value) == (0.01, -0.002, 0.021, 0.09)


def test_no_control_no_gain():
    assert combine_gains([]) is None
    assert combine_gains([Difference(), Difference(value=math.nan)]) is None


def test_without_luck_of_examples_it_is_the_t_test():
    values = [0.010, 0.014, 0.021, 0.008]
    combined = combine_gains([gain(value, half_width=0.0) for value in values])
    expected = stats.ttest_1samp(values, 0.0)
    assert combined.p_value == pytest.approx(expected.pvalue)
    assert (combined.low, combined.high) == pytest.approx(tuple(expected.confidence_interval()))
    assert combined.shows_teaching
    assert not combine_gains([gain(0.01)]).shows_teaching


def test_without_spread_over_seeds_the_luck_of_examples_stays():
    one, many = combine_gains([gain(0.012)]), combine_gains([gain(0.012)] * 5)
    assert many.high - many.low == pytest.approx(one.high - one.low, rel=0.01)


def test_models_that_never_differ():
    same = Difference(0.0, None, None, 1.0)
    both = combine_gains([same, same])
    assert (both.value, both.p_value) == (0.0, 1.0)


@pytest.mark.parametrize("shared", [0.0, 1.0])
@pytest.mark.parametrize("seeds", [2, 3])
@pytest.mark.parametrize("training", [0.0, 0.02])
def test_at_most_five_per_cent_false_positives(training, shared, seeds):
    """Null pairs: luck of training differs by seed, luck of examples is shared in part."""
    random = np.random.default_rng(7)
    examples, trials = 0.006, 400
    common = random.normal(size=(trials, 1)) * np.sqrt(shared)
    own = random.normal(size=(trials, seeds)) * np.sqrt(1 - shared)
    values = training * random.normal(size=(trials, seeds)) + examples * (common + own)
    found = [combine_gains([gain(v, 1.96 * examples) for v in row.tolist()]) for row in values]
    false_positives = np.mean([one.p_value < 0.05 for one in found])
    assert false_positives <= 0.05 + 2.6 * np.sqrt(0.05 * 0.95 / trials)
    assert all((one.p_value < 0.05) == (one.low > 0 or one.high < 0) for one in found)


def test_correction_over_those_that_were_tested():
    gains = [combine_gains([gain(0.01, p_value=p)]) for p in (0.01, 0.04, None)]
    assert apply_holm_correction(gains) == 2
    assert [one.p_holm for one in gains] == [0.02, 0.04, None]
