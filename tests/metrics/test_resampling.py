"""Intervals over seeds and test examples: limits, the resamples, and coverage in the quick form."""

import numpy as np
import pytest
from scipy import stats

from distill.metrics import classification, squad
from distill.metrics.resampling import ExampleResamples, seeds_interval
from experiments.statistics import simulate


def noise(deviation, seeds=1, size=4000):
    """Resamples around 0, the same for every seed."""
    levels = (np.arange(size) + 0.5) / size
    return np.repeat(deviation * stats.norm.ppf(levels)[None], seeds, axis=0)


def test_without_luck_of_examples_it_is_students_t():
    values = [0.010, 0.014, 0.021, 0.008]
    interval = seeds_interval(values, np.repeat(np.array(values)[:, None], 50, axis=1))
    expected = stats.ttest_1samp(values, 0.0)
    assert interval.p_value == pytest.approx(expected.pvalue)
    assert interval[1:3] == pytest.approx(tuple(expected.confidence_interval()))


def test_without_luck_of_training_the_bootstrap_stays():
    interval = seeds_interval([0.012] * 5, 0.012 + noise(0.005, 5))
    assert interval[1:3] == pytest.approx((0.012 - 1.96 * 0.005, 0.012 + 1.96 * 0.005), rel=0.01)


def test_both_are_behrens_and_fishers():
    """Against the distribution of the sum, drawn without the package."""
    values = np.array([0.010, 0.014, 0.021])
    interval = seeds_interval(values.tolist(), values[:, None] + noise(0.004, 3))
    random = np.random.default_rng(0)
    drawn = values.mean() + stats.sem(values) * random.standard_t(2, 10**6)
    drawn += 0.004 * random.normal(size=10**6)
    assert interval[1:3] == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=2e-4)
    assert interval.p_value == pytest.approx(2 * np.mean(drawn < 0), abs=2e-3)


def test_what_seeds_do_not_share_is_counted_once():
    """Examples that each seed answers by itself add to the spread of the seeds already."""
    random = np.random.default_rng(0)
    values = [0.010, 0.014, 0.021]
    own = random.normal(0, 0.003, (3, 4000))
    own -= own.mean(axis=1, keepdims=True)
    interval = seeds_interval(values, np.array(values)[:, None] + own)
    alone = stats.ttest_1samp(values, 0.0).confidence_interval()
    assert interval[1:3] == pytest.approx(tuple(alone), rel=0.05)


@pytest.mark.parametrize(
    ("values", "resampled"),
    [
        ([0.1], np.full((1, 9), 0.1)),  # one seed
        ([0.1, 0.1], np.full((2, 9), 0.1)),  # nothing ever differs
        ([0.1, 0.2], np.array([[0.1, np.nan], [0.2, 0.2]])),  # undefined on a resample
    ],
)
def test_no_interval_where_none_can_be_estimated(values, resampled):
    interval = seeds_interval(values, resampled)
    assert interval.value == pytest.approx(np.mean(values))
    assert interval[1:] == (None, None, None)


def test_resamples_are_the_same_for_every_model_and_of_whole_clusters():
    clusters = np.array([0, 0, 1, 1, 1, 2])
    drawn = np.concatenate(list(ExampleResamples(6, clusters, resamples=50).counts()))
    for cluster in range(3):
        assert (np.ptp(drawn[:, clusters == cluster], axis=1) == 0).all()
    assert (drawn[:, [0, 2, 5]].sum(axis=1) == 3).all()
    random = np.random.default_rng(0)
    labels, first, second = random.integers(3, size=(3, 400))
    alone = ExampleResamples(400).values(classification.macro_f1, [first], labels)
    both = ExampleResamples(400).values(classification.macro_f1, [second, first], labels)
    assert np.array_equal(alone[0], both[1])
    counts = next(ExampleResamples(400).counts())[7]
    repeated = classification.macro_f1(np.repeat(first, counts), np.repeat(labels, counts))
    assert alone[0, 7] == pytest.approx(repeated)
    with pytest.raises(ValueError, match="examples"):
        ExampleResamples(400).values(classification.accuracy, [first[:10]], labels[:10])


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 5])
@pytest.mark.parametrize(("examples", "deviation"), [(200, 0.0), (1821, 1.0)])
def test_false_verdicts_and_coverage(examples, deviation, seeds):
    """The quick form of experiments/statistics: 100 trials a cell, three standard errors."""
    random = np.random.default_rng(0)
    cell = simulate.two_way_cell(random, 100, examples, seeds, deviation)
    error = 3 * np.sqrt(0.05 * 0.95 / cell.trials)
    assert cell.verdicts <= 0.05 + error
    assert cell.covered >= 0.95 - error


@pytest.mark.slow
@pytest.mark.parametrize("case", simulate.CASES, ids=lambda case: case.name)
def test_coverage_of_single_models(case):
    """The quick form of experiments/statistics: 40 test sets of 500, three standard errors."""
    random = np.random.default_rng(0)
    covered, _, _ = simulate.example_cell(random, case, 40, 500, resamples=400)
    assert covered >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / 40)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["macro F1, a class of 1 %", "SQuAD F1 by paragraph", "ECE, overconfident"]
)
def test_coverage_over_seeds_of_other_metrics(name):
    """The quick form of experiments/statistics: 60 runs of 500 examples, three standard errors."""
    (case,) = (one for one in simulate.SEEDS_CASES if one.name == name)
    cell = simulate.seeds_metric_cell(
        np.random.default_rng(0), case, 60, 500, 3, resamples=300, truth=0.0
    )
    error = 3 * np.sqrt(0.05 * 0.95 / 60)
    assert cell.difference >= 0.95 - error
    assert cell.verdicts <= 0.05 + error


def test_by_question_the_interval_of_squad_is_too_narrow():
    """What resampling by paragraph is for: questions about one are right or wrong together."""
    random = np.random.default_rng(0)
    (scores,), clusters = simulate.draw_questions(random, 2000)
    of_questions, of_paragraphs = (
        ExampleResamples(2000, units, resamples=400).values(squad.f1, [scores])[0].std()
        for units in (None, clusters)
    )
    assert of_paragraphs > 1.15 * of_questions
