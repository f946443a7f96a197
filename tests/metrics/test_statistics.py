"""Intervals and tests against scipy, by enumeration, and by simulation of what they promise."""

import itertools

import numpy as np
import pytest
import scipy.stats

from distill.metrics.base import CountMetric, Metric
from distill.metrics.classification import (
    accuracy,
    exact_match,
    macro_f1,
    matthews_correlation,
)
from distill.metrics.regression import pearson, spearman
from distill.metrics.statistics import (
    Comparison,
    Interval,
    bootstrap_interval,
    holm,
    mcnemar,
    mean_interval,
    paired_comparison,
    student_t_quantile,
)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def classifier(labels: np.ndarray, right: float, random: np.random.Generator) -> np.ndarray:
    wrong = (labels + random.integers(1, labels.max() + 1, size=len(labels))) % (labels.max() + 1)
    return np.where(random.random(len(labels)) < right, labels, wrong)


def like(predictions: np.ndarray, labels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Another model that mostly predicts the same."""
    redrawn = classifier(labels, 0.8, random)
    return np.where(random.random(len(labels)) < 0.8, predictions, redrawn)


def plain(metric: CountMetric):
    """The same metric without its short cut through counts."""
    return lambda *arrays: metric(*arrays)


def bias_corrected(resampled: np.ndarray, value: float) -> np.ndarray:
    """Efron & Tibshirani 1993, equation 14.10 without acceleration, by scipy."""
    share = scipy.stats.percentileofscore(resampled, value, kind="mean") / 100
    levels = scipy.stats.norm.cdf(2 * scipy.stats.norm.ppf(share) + np.array([-1.96, 1.96]))
    return np.quantile(resampled, levels)


# Bootstrap


@pytest.mark.parametrize("metric", [accuracy, macro_f1, matthews_correlation, pearson, spearman])
def test_interval_equals_scipys_resampling(metric, random):
    if metric in (pearson, spearman):
        labels = random.normal(size=200)
        predictions = labels + random.normal(size=200)
    else:
        labels = random.integers(3, size=200)
        predictions = classifier(labels, 0.8, random)
    value, low, high = bootstrap_interval(metric, predictions, labels, resamples=20_000)
    resampled = scipy.stats.bootstrap(
        (predictions, labels),
        metric,
        paired=True,
        vectorized=False,
        n_resamples=4000,
        method="percentile",
        rng=random,
    ).bootstrap_distribution
    assert value == metric(predictions, labels)
    tolerance = 0.1 * resampled.std()  # three standard errors of a quantile of 4,000
    assert (low, high) == pytest.approx(tuple(bias_corrected(resampled, value)), abs=tolerance)


@pytest.mark.parametrize("right", [100, 160, 190])
def test_interval_of_accuracy_equals_the_binomial_distribution(right):
    """Resampling right answers is drawing from Binomial(n, right / n), whose quantiles are known.

    The share of it below the value, ties half, gives the levels of the quantiles.
    """
    n = 200
    distribution = scipy.stats.binom(n, right / n)
    share = distribution.cdf(right) - distribution.pmf(right) / 2
    levels = scipy.stats.norm.cdf(2 * scipy.stats.norm.ppf(share) + np.array([-1.96, 1.96]))
    answers = (np.arange(n) < right).astype(int)
    _, low, high = bootstrap_interval(accuracy, answers, np.ones(n, int), resamples=200_000)
    # The quantile of a discrete distribution may fall to either side of a step.
    for end, level in ((low, levels[0]), (high, levels[1])):
        steps = distribution.ppf(np.clip([level - 0.001, level + 0.001], 0, 1)) / n
        assert steps[0] <= end <= steps[1]


@pytest.mark.parametrize("metric", [accuracy, macro_f1, matthews_correlation])
def test_counting_is_resampling(metric, random):
    labels = random.integers(3, size=150)
    predictions = classifier(labels, 0.7, random)
    counted = bootstrap_interval(metric, predictions, labels, resamples=10_000)
    walked = bootstrap_interval(plain(metric), predictions, labels, resamples=10_000)
    # The intervals are about 0.15 wide; one example is 0.0067.
    assert tuple(counted) == pytest.approx(tuple(walked), abs=0.008)


def test_a_named_metric_is_its_function(random):
    labels = random.integers(3, size=150)
    predictions = classifier(labels, 0.7, random)
    other = like(predictions, labels, random)
    for function in (accuracy, macro_f1):
        metric = Metric("name", function)
        assert metric(predictions, labels) == function(predictions, labels)
        assert bootstrap_interval(metric, predictions, labels) == bootstrap_interval(
            function, predictions, labels
        )
        assert paired_comparison(metric, predictions, other, labels) == paired_comparison(
            function, predictions, other, labels
        )


def test_order_of_examples_does_not_matter(random):
    labels = random.integers(3, size=150)
    first = classifier(labels, 0.8, random)
    second = like(first, labels, random)
    order = random.permutation(150)
    assert bootstrap_interval(macro_f1, first, labels) == bootstrap_interval(
        macro_f1, first[order], labels[order]
    )
    assert paired_comparison(macro_f1, first, second, labels) == paired_comparison(
        macro_f1, first[order], second[order], labels[order]
    )


def test_same_seed_same_interval(random):
    labels = random.integers(3, size=500)
    predictions = classifier(labels, 0.8, random)
    first = bootstrap_interval(macro_f1, predictions, labels, seed=1)
    assert first == bootstrap_interval(macro_f1, predictions, labels, seed=1)
    assert first != bootstrap_interval(macro_f1, predictions, labels, seed=2)


def test_higher_confidence_is_wider(random):
    labels = random.integers(2, size=500)
    predictions = classifier(labels, 0.8, random)
    intervals = [
        bootstrap_interval(accuracy, predictions, labels, confidence=confidence)
        for confidence in (0.5, 0.9, 0.99)
    ]
    assert intervals[2].low < intervals[1].low < intervals[0].low < intervals[0].value
    assert intervals[2].high > intervals[1].high > intervals[0].high > intervals[0].value


def test_examples_may_have_any_shape(random):
    """Sentences of tokens: the sentence is the unit that is resampled."""
    labels = random.integers(3, size=(80, 10))
    predictions = np.where(random.random((80, 1)) < 0.7, labels, 0)  # errors come in clusters

    def token_accuracy(predictions, labels):
        return float(np.mean(predictions == labels))

    value, low, high = bootstrap_interval(token_accuracy, predictions, labels)
    per_sentence = bootstrap_interval(np.mean, (predictions == labels).mean(axis=1))
    per_token = bootstrap_interval(np.mean, (predictions == labels).ravel())
    assert value == pytest.approx(per_sentence.value)
    assert (low, high) == pytest.approx(per_sentence[1:], abs=0.005)
    assert high - low > 1.2 * (per_token.high - per_token.low)
    comparison = paired_comparison(
        token_accuracy, predictions, labels, labels, resamples=200, permutations=199
    )
    assert comparison.value < 0
    assert comparison.p_value == 1 / 200


def test_cost_follows_the_distinct_examples(random):
    """25,000 examples of two classes are eight kinds for a pair of models."""
    shapes = set()

    @CountMetric
    def spy(predictions, labels, counts):
        shapes.add(counts.shape[1])
        return accuracy.from_counts(predictions, labels, counts)

    labels = random.integers(2, size=25_000)
    first = classifier(labels, 0.9, random)
    second = like(first, labels, random)
    assert bootstrap_interval(spy, first, labels) == bootstrap_interval(accuracy, first, labels)
    paired_comparison(spy, first, second, labels)
    assert max(shapes - {25_000}) == 16  # swapped and not
    assert 25_000 in shapes  # the value itself


# Where there is no interval


@pytest.mark.parametrize(("right", "n"), [(10, 10), (0, 10), (7, 10), (195, 200), (1, 3000)])
@pytest.mark.parametrize("metric", [accuracy, exact_match])
def test_few_right_or_wrong_have_the_exact_interval(metric, right, n):
    answers = (np.arange(n) < right).astype(int)[:, None if metric is exact_match else ...]
    exact = scipy.stats.binomtest(right, n).proportion_ci(method="exact")
    interval = bootstrap_interval(metric, answers, np.ones_like(answers))
    assert interval == pytest.approx((right / n, exact.low, exact.high))


@pytest.mark.parametrize("metric", [macro_f1, plain(accuracy)])
def test_all_right_gives_no_interval(metric):
    assert bootstrap_interval(metric, [0, 1, 1], [0, 1, 1]) == Interval(1.0, None, None)


def test_undefined_resamples_give_no_interval():
    nearly_constant = np.array([0.0] * 9 + [1.0])
    value, low, high = bootstrap_interval(pearson, nearly_constant, np.arange(10.0))
    assert value == pytest.approx(scipy.stats.pearsonr(nearly_constant, np.arange(10)).statistic)
    assert low is None
    assert high is None
    constant = bootstrap_interval(pearson, np.zeros(10), np.arange(10.0))
    assert np.isnan(constant.value)
    assert constant.low is None


def test_value_beyond_all_resamples_gives_no_interval():
    """The number of distinct values: every resample has fewer."""
    interval = bootstrap_interval(lambda x: float(len(np.unique(x))), np.arange(1000))
    assert interval == Interval(1000.0, None, None)


def test_equal_predictions_may_differ_on_other_examples():
    labels = np.zeros(100, dtype=int)
    value, low, high, p_value = paired_comparison(accuracy, labels, labels, labels)
    most = scipy.stats.binomtest(0, 100).proportion_ci(method="exact").high
    assert (value, low, high, p_value) == (0.0, pytest.approx(-most), pytest.approx(most), 1.0)


@pytest.mark.parametrize("metric", [macro_f1, plain(macro_f1)])
def test_same_predictions_do_not_differ(metric, random):
    labels = random.integers(3, size=100)
    predictions = classifier(labels, 0.8, random)
    assert paired_comparison(metric, predictions, predictions, labels) == Comparison(
        0.0, None, None, 1.0
    )


@pytest.mark.parametrize("arrays", [([], []), ([0, 1], [0, 1, 1])])
def test_arrays_that_do_not_match_are_refused(arrays):
    with pytest.raises(ValueError, match="same examples"):
        bootstrap_interval(accuracy, *arrays)
    with pytest.raises(ValueError, match="same examples"):
        paired_comparison(accuracy, *arrays, arrays[0])


# Paired comparison


@pytest.mark.parametrize("metric", [accuracy, macro_f1, plain(macro_f1)])
def test_difference_is_of_the_same_resamples(metric, random):
    """The paired interval is that of any statistic of three arrays, and narrower than unpaired."""
    labels = random.integers(3, size=400)
    first = classifier(labels, 0.85, random)
    second = like(first, labels, random)
    value, low, high, _ = paired_comparison(
        metric, first, second, labels, resamples=3000, permutations=99
    )
    assert value == metric(first, labels) - metric(second, labels)
    direct = bootstrap_interval(
        lambda a, b, y: metric(a, y) - metric(b, y), first, second, labels, resamples=3000
    )
    assert (value, low, high) == pytest.approx(direct, abs=0.004)
    alone = [bootstrap_interval(metric, predictions, labels) for predictions in (first, second)]
    assert high - low < np.hypot(*(interval.high - interval.low for interval in alone))


def test_exchanging_the_models_changes_the_sign(random):
    labels = random.integers(3, size=300)
    first = classifier(labels, 0.85, random)
    second = like(first, labels, random)
    for metric in (accuracy, macro_f1):
        forth = paired_comparison(metric, first, second, labels)
        back = paired_comparison(metric, second, first, labels)
        assert back.value == -forth.value
        assert (-back.high, -back.low) == pytest.approx((forth.low, forth.high), abs=0.005)
        assert back.p_value == pytest.approx(forth.p_value, abs=0.02)


def test_mcnemar_equals_scipys_binomial_test():
    for only_first, only_second in itertools.product(range(12), repeat=2):
        trials = only_first + only_second
        expected = scipy.stats.binomtest(only_first, trials).pvalue if trials else 1.0
        assert mcnemar(only_first, only_second) == pytest.approx(expected, rel=1e-12)
    assert mcnemar(1180, 1300) == pytest.approx(scipy.stats.binomtest(1180, 2480).pvalue)
    assert mcnemar(3, 900) == pytest.approx(scipy.stats.binomtest(3, 903).pvalue, rel=1e-9)


def test_accuracy_is_tested_exactly(random):
    labels = random.integers(3, size=200)
    first = classifier(labels, 0.85, random)
    second = like(first, labels, random)
    exact = paired_comparison(accuracy, first, second, labels).p_value
    only_first = int(((first == labels) & (second != labels)).sum())
    only_second = int(((second == labels) & (first != labels)).sum())
    assert exact == scipy.stats.binomtest(only_first, only_first + only_second).pvalue
    swapped = paired_comparison(plain(accuracy), first, second, labels, permutations=4000)
    assert swapped.p_value == pytest.approx(exact, abs=0.03)


@pytest.mark.parametrize("by_counts", [True, False])
def test_permutation_test_equals_scipys_over_all_swaps(by_counts, random):
    """Ten examples have 1,024 swaps, which scipy goes through one by one."""
    labels = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])
    first = np.array([0, 1, 2, 0, 1, 2, 0, 1, 1, 1])
    second = np.array([0, 2, 2, 1, 0, 2, 2, 1, 2, 1])
    expected = scipy.stats.permutation_test(
        (first, second),
        lambda a, b: macro_f1(a, labels) - macro_f1(b, labels),
        permutation_type="samples",
        vectorized=False,
        n_resamples=2000,
    )
    metric = macro_f1 if by_counts else plain(macro_f1)
    comparison = paired_comparison(metric, first, second, labels, permutations=6000)
    assert comparison.value == pytest.approx(expected.statistic)
    assert 0.05 < expected.pvalue < 0.9
    assert comparison.p_value == pytest.approx(expected.pvalue, abs=0.025)


def test_correlations_are_compared(random):
    targets = random.normal(size=200)
    first, second = (targets + scale * random.normal(size=200) for scale in (0.5, 1.0))
    comparison = paired_comparison(spearman, first, second, targets, permutations=199)
    assert comparison.value > 0.1
    assert comparison.low > 0
    assert comparison.p_value == 1 / 200  # the smallest that 199 swaps can give, not 0


# Several tests, several seeds


def test_holm_is_the_closure_of_bonferroni(random):
    """A hypothesis is rejected if Bonferroni rejects every set of hypotheses that contains it."""
    for count in (1, 2, 3, 5):
        p_values = random.random(count) ** 3
        sets = [
            chosen
            for size in range(1, count + 1)
            for chosen in itertools.combinations(range(count), size)
        ]
        closure = [
            max(min(1, len(s) * min(p_values[j] for j in s)) for s in sets if i in s)
            for i in range(count)
        ]
        assert holm(p_values) == pytest.approx(closure)
    assert holm([]) == []


@pytest.mark.parametrize("probability", [0.5, 0.6, 0.95, 0.975, 0.995, 0.99995])
def test_student_t_quantile_equals_scipy(probability):
    for degrees_of_freedom in [*range(1, 101), 1000, 9999]:
        assert student_t_quantile(probability, degrees_of_freedom) == pytest.approx(
            scipy.stats.t.ppf(probability, degrees_of_freedom), rel=1e-10, abs=1e-12
        )


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_mean_interval_equals_scipy(count, random):
    values = random.normal(0.9, 0.01, size=count)
    expected = scipy.stats.t.interval(
        0.9, count - 1, loc=values.mean(), scale=scipy.stats.sem(values)
    )
    interval = mean_interval(values.tolist(), confidence=0.9)
    assert interval.value == pytest.approx(values.mean())
    assert interval[1:] == pytest.approx(expected)


def test_mean_interval_of_one_value_has_no_ends():
    assert mean_interval([0.9]) == Interval(0.9, None, None)
    with pytest.raises(ValueError, match="same examples"):
        mean_interval([])


# What the numbers promise


def accuracy_coverage(true_accuracy: float, n: int) -> tuple[float, float]:
    """Probability that the interval holds the truth, and that there is none; no simulation.

    The interval depends on the number of right answers alone, which is binomial.
    """
    covered = without = 0.0
    for right in range(n + 1):
        probability = scipy.stats.binom.pmf(right, n, true_accuracy)
        if probability < 1e-9:
            continue
        answers = (np.arange(n) < right).astype(int)
        _, low, high = bootstrap_interval(accuracy, answers, np.ones(n, dtype=int))
        if low is None:
            without += probability
        else:
            covered += probability * (low - 1e-12 <= true_accuracy <= high + 1e-12)
    return covered, without


@pytest.mark.parametrize(("true_accuracy", "n"), [(0.9, 800), (0.9, 1821), (0.7, 800)])
def test_coverage_of_accuracy(true_accuracy, n):
    covered, without = accuracy_coverage(true_accuracy, n)
    assert 0.93 <= covered <= 0.97
    assert without < 1e-3


def test_coverage_of_extreme_accuracies_is_as_documented():
    for mistakes in (0.5, 1, 2, 3, 4.5, 6, 8, 10):
        covered, without = accuracy_coverage(1 - mistakes / 200, 200)
        assert 0.955 <= covered < 0.995
        assert without == 0


def confusion(classes: np.ndarray, right: float) -> np.ndarray:
    """Probabilities ``(C, C)`` of prediction and label, errors spread evenly."""
    others = len(classes) - 1
    table = np.full((len(classes), len(classes)), (1 - right) / others)
    np.fill_diagonal(table, right)
    return table * classes


def macro_f1_of(table: np.ndarray) -> float:
    true_positive = np.diag(table)
    return float(np.mean(2 * true_positive / (table.sum(axis=0) + table.sum(axis=1))))


def macro_f1_coverage(table: np.ndarray, n: int, simulations: int, interval) -> float:
    predictions, labels = np.divmod(np.arange(table.size), len(table))
    covered = 0
    for counts in np.random.default_rng(0).multinomial(n, table.ravel(), size=simulations):
        low, high = interval(np.repeat(predictions, counts), np.repeat(labels, counts))
        covered += low <= macro_f1_of(table) <= high
    return covered / simulations


def test_coverage_of_macro_f1():
    table = confusion(np.array([0.6, 0.3, 0.1]), right=0.85)
    covered = macro_f1_coverage(
        table, 800, 1500, lambda *arrays: bootstrap_interval(macro_f1, *arrays)[1:]
    )
    assert 0.93 <= covered <= 0.97


def test_bias_correction_is_what_rare_classes_need():
    """On 77 classes of 2 to 1,300 examples the plain percentiles miss the truth."""
    frequencies = 1 / np.arange(1, 78) ** 1.5
    table = confusion(frequencies / frequencies.sum(), right=0.9)

    def percentiles(predictions, labels):
        kinds, counts = np.unique([predictions, labels], axis=1, return_counts=True)
        draws = np.random.default_rng(0).multinomial(3080, counts / 3080, size=300)
        return np.quantile(macro_f1.from_counts(*kinds, draws.astype(float)), [0.025, 0.975])

    corrected = macro_f1_coverage(
        table, 3080, 100, lambda *arrays: bootstrap_interval(macro_f1, *arrays, resamples=1000)[1:]
    )
    assert 0.83 <= corrected <= 0.97  # 0.90 of 500 simulations
    assert macro_f1_coverage(table, 3080, 100, percentiles) < 0.65


def pairs(only_first: float, only_second: float, both: float, n: int, simulations: int):
    """Counts ``(simulations, 4)`` of examples only first, only second, both, neither gets right."""
    outcomes = [only_first, only_second, both, 1 - only_first - only_second - both]
    return np.random.default_rng(0).multinomial(n, outcomes, size=simulations)


def compare(counts: np.ndarray, metric=accuracy, **settings) -> Comparison:
    first = np.repeat([1, 0, 1, 0], counts)
    second = np.repeat([0, 1, 1, 0], counts)
    return paired_comparison(metric, first, second, np.ones(counts.sum(), dtype=int), **settings)


def test_coverage_of_the_paired_difference():
    counts = pairs(0.05, 0.03, 0.86, n=1821, simulations=2000)
    intervals = [compare(sample) for sample in counts]
    covered = np.mean([interval.low <= 0.02 <= interval.high for interval in intervals])
    assert 0.93 <= covered <= 0.97


def test_equal_accuracy_is_rejected_in_five_of_a_hundred_at_most():
    """Both models are right on 91 %, and differ in 8 %: the exact test never exceeds its level."""
    counts = pairs(0.04, 0.04, 0.87, n=1821, simulations=20_000)
    p_values = np.array([mcnemar(int(first), int(second)) for first, second, *_ in counts])
    standard_error = np.sqrt(0.05 * 0.95 / len(p_values))
    assert np.mean(p_values <= 0.05) <= 0.05 + 3 * standard_error
    assert np.mean(p_values <= 0.05) >= 0.03  # nor is it idle


def test_equal_macro_f1_is_rejected_in_five_of_a_hundred_at_most():
    """Two models with the same table of errors, which agree on most examples."""
    random = np.random.default_rng(0)
    rejected = []
    for _ in range(1000):
        labels = random.choice(3, size=500, p=[0.6, 0.3, 0.1])
        common = classifier(labels, 0.85, random)
        first, second = (
            np.where(random.random(500) < 0.8, common, classifier(labels, 0.85, random))
            for _ in range(2)
        )
        comparison = paired_comparison(
            macro_f1, first, second, labels, resamples=10, permutations=199
        )
        rejected.append(comparison.p_value <= 0.05)
    assert 0.03 <= np.mean(rejected) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1000)


def test_two_points_are_found_on_a_test_set_of_sst2s_size():
    """Planted: 2 points of accuracy, models that differ in 8 % of 5,463 examples."""
    counts = pairs(0.05, 0.03, 0.86, n=5463, simulations=5000)
    p_values = [mcnemar(int(first), int(second)) for first, second, *_ in counts]
    assert np.mean(np.array(p_values) <= 0.05) >= 0.99
    by_macro_f1 = [
        compare(sample, macro_f1, resamples=10, permutations=199).p_value for sample in counts[:100]
    ]
    assert np.mean(np.array(by_macro_f1) <= 0.05) >= 0.95
