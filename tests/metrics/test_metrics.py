"""The metrics against scikit-learn, scipy and torchmetrics, and at their limits."""

import doctest
import importlib
import pkgutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats
import sklearn.metrics
import torch
import torchmetrics

import distill.metrics
from distill.metrics.base import CountMetric
from distill.metrics.calibration import (
    TEMPERATURES,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
)
from distill.metrics.classification import accuracy, macro_f1, matthews_correlation
from distill.metrics.fidelity import agreement, kl_divergence, log_softmax
from distill.metrics.regression import pearson, spearman

SCIKIT_LEARN = {
    accuracy: sklearn.metrics.accuracy_score,
    macro_f1: lambda labels, predictions: sklearn.metrics.f1_score(
        labels, predictions, average="macro", zero_division=0
    ),
    matthews_correlation: sklearn.metrics.matthews_corrcoef,
}
count_metrics = pytest.mark.parametrize("metric", SCIKIT_LEARN, ids=lambda metric: metric.__name__)


def by_scikit_learn(metric: CountMetric, predictions, labels) -> float:
    with warnings.catch_warnings():
        # Of a confusion matrix of one class, which is a case under test.
        warnings.filterwarnings("ignore", message="A single label was found")
        return SCIKIT_LEARN[metric](labels, predictions)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    "name", [info.name for info in pkgutil.iter_modules(distill.metrics.__path__)]
)
def test_doctests(name):
    module = importlib.import_module(f"distill.metrics.{name}")
    assert doctest.testmod(module).failed == 0


def test_every_count_metric_is_documented_with_an_example():
    for info in pkgutil.iter_modules(distill.metrics.__path__):
        module = importlib.import_module(f"distill.metrics.{info.name}")
        for metric in vars(module).values():
            if isinstance(metric, CountMetric) and metric.__module__ == module.__name__:
                assert ">>>" in " ".join(metric.__doc__.split()), metric.__name__
                assert f"Called as ``{metric.__name__}(" in " ".join(metric.__doc__.split()), (
                    metric.__name__
                )


def test_modules_are_light():
    """``distill-report`` imports them, and must not wait for torch."""
    modules = [
        f"distill.metrics.{info.name}" for info in pkgutil.iter_modules(distill.metrics.__path__)
    ]
    code = (
        f"import sys, {', '.join(modules)}; "
        "print(*{'torch', 'scipy', 'sklearn', 'pandas'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == ""


@count_metrics
@pytest.mark.parametrize("classes", [2, 3, 20])
@pytest.mark.parametrize("examples", [1, 7, 300])
def test_equals_scikit_learn(metric, classes, examples, random):
    for _ in range(20):
        labels = random.integers(classes, size=examples)
        guesses = random.integers(classes, size=examples)
        predictions = np.where(random.random(examples) < 0.6, labels, guesses)
        assert metric(predictions, labels) == pytest.approx(
            by_scikit_learn(metric, predictions, labels), abs=1e-12
        )


@count_metrics
@pytest.mark.parametrize(
    ("predictions", "labels"),
    [
        ([0, 1, 2], [0, 1, 2]),  # all right
        ([1, 2, 0], [0, 1, 2]),  # all wrong
        ([1, 1, 1], [0, 0, 0]),  # all wrong, one class each
        ([0, 0, 0], [0, 0, 0]),  # all right, one class
        ([0, 0, 0, 0], [0, 1, 1, 0]),  # one class predicted
        ([0, 1, 1, 0], [1, 1, 1, 1]),  # one class labeled
        ([5, 3, 5, 3], [3, 3, 5, 9]),  # a class never predicted, class numbers with gaps
        ([0, 4, 0, 1], [0, 0, 0, 1]),  # a class predicted that no label has
    ],
)
def test_edges_equal_scikit_learn(metric, predictions, labels):
    assert metric(predictions, labels) == pytest.approx(
        by_scikit_learn(metric, predictions, labels), abs=1e-12
    )


@count_metrics
def test_counts_stand_for_repeated_examples(metric, random):
    predictions, labels = random.integers(4, size=(2, 12))
    counts = random.integers(4, size=(30, 12))  # some kinds of example, and classes, drop out
    from_counts = metric.from_counts(predictions, labels, counts.astype(float))
    repeated = [
        metric(np.repeat(predictions, sample), np.repeat(labels, sample)) for sample in counts
    ]
    np.testing.assert_allclose(from_counts, repeated, rtol=0, atol=1e-12)


@count_metrics
def test_any_labels_will_do(metric):
    words = np.array(["no", "yes", "maybe"])
    predictions, labels = np.array([0, 1, 1, 2, 0]), np.array([0, 1, 2, 2, 1])
    assert metric(words[predictions], words[labels]) == pytest.approx(metric(predictions, labels))


def test_agreement_is_symmetric(random):
    first, second = random.integers(3, size=(2, 50))
    assert agreement(first, second) == agreement(second, first) == np.mean(first == second)


@pytest.mark.parametrize("decimals", [1, 8])  # with and without ties
def test_correlations_equal_scipy(decimals, random):
    for _ in range(20):
        targets = random.normal(size=100)
        predictions = (targets + random.normal(size=100)).round(decimals)
        targets = targets.round(decimals)
        assert pearson(predictions, targets) == pytest.approx(
            scipy.stats.pearsonr(predictions, targets).statistic
        )
        assert spearman(predictions, targets) == pytest.approx(
            scipy.stats.spearmanr(predictions, targets).statistic
        )


def test_pearson_keeps_its_digits_far_from_zero(random):
    targets = random.normal(size=100)
    predictions = targets + random.normal(size=100)
    assert pearson(predictions + 1e6, targets * 1e-150) == pytest.approx(
        pearson(predictions, targets), abs=1e-8
    )


def test_half_precision_is_not_summed_in_half_precision():
    targets = np.arange(3000) % 7
    assert pearson(targets.astype(np.float16), targets.astype(np.float16)) == pytest.approx(1)


@pytest.mark.parametrize("metric", [pearson, spearman])
def test_correlation_with_a_constant_does_not_exist(metric):
    assert np.isnan(metric([0.1] * 5, [1.0, 2.0, 3.0, 4.0, 5.0]))


@pytest.mark.parametrize("scale", [1, 1000])
def test_log_softmax_equals_scipy(scale, random):
    logits = scale * random.normal(size=(50, 7))
    np.testing.assert_allclose(log_softmax(logits), scipy.special.log_softmax(logits, axis=1))


def test_kl_divergence_equals_scipy(random):
    teacher, student = 3 * random.normal(size=(2, 40, 5))
    expected = scipy.stats.entropy(
        scipy.special.softmax(teacher, axis=1), scipy.special.softmax(student, axis=1), axis=1
    )
    assert kl_divergence(teacher, student) == pytest.approx(expected.mean())
    assert kl_divergence(teacher, student + random.normal(size=(40, 1))) == pytest.approx(
        expected.mean()
    ), "a constant added to an example's logits changes nothing"


def test_kl_divergence_limits():
    logits = np.array([[2.0, -1.0, 0.5], [0.0, 700.0, -700.0]])
    assert kl_divergence(logits, logits) == 0
    certain, even = np.array([[0.0, -np.inf]]), np.array([[0.0, 0.0]])
    assert kl_divergence(certain, even) == pytest.approx(np.log(2))
    assert kl_divergence(certain, certain) == 0
    assert kl_divergence(even, certain) == np.inf


def test_half_precision_logits_are_compared_in_double(random):
    teacher, student = random.normal(size=(2, 40, 5)).astype(np.float16)
    assert kl_divergence(teacher, student) == kl_divergence(
        teacher.astype(np.float64), student.astype(np.float64)
    )


def test_negative_log_likelihood_equals_scikit_learn(random):
    labels = random.integers(4, size=60)
    log_probabilities = log_softmax(random.normal(size=(60, 4)))
    assert negative_log_likelihood(log_probabilities, labels) == pytest.approx(
        sklearn.metrics.log_loss(labels, np.exp(log_probabilities), labels=range(4))
    )
    assert negative_log_likelihood([[0.0, -np.inf]], [1]) == np.inf


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_expected_calibration_error_equals_torchmetrics(bins, random):
    probabilities = scipy.special.softmax(2 * random.normal(size=(500, 3)), axis=1)
    labels = random.integers(3, size=500)
    expected = torchmetrics.functional.classification.multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(labels), num_classes=3, n_bins=bins
    )
    assert expected_calibration_error(probabilities, labels, bins) == pytest.approx(
        float(expected), abs=1e-6
    )


def test_expected_calibration_error_limits():
    # Half of the answers given with confidence 0.5 are right.
    assert expected_calibration_error([[0.5, 0.5]] * 10, [0, 1] * 5) == 0
    assert expected_calibration_error([[1.0, 0.0]] * 10, [0] * 10) == 0
    assert expected_calibration_error([[1.0, 0.0]] * 10, [1] * 10) == 1
    # Bins are closed on the right: with two, 0.5 lies in the first, 0.6 and 1 in the second.
    probabilities = [[0.5, 0.5], [0.6, 0.4], [1.0, 0.0]]
    assert expected_calibration_error(probabilities, [0, 1, 0], bins=2) == pytest.approx(
        (0.5 + abs(1 - 1.6)) / 3
    )


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("sureness", [0.02, 0.3, 1, 4, 60])
def test_temperature_equals_scipys_minimum(classes, sureness, random):
    true = 2 * random.normal(size=(400, classes))
    labels = np.array([random.choice(classes, p=scipy.special.softmax(row)) for row in true])
    logits = sureness * true + random.normal(size=(400, 1))

    def loss(log_temperature: float) -> float:
        return torch.nn.functional.cross_entropy(
            torch.from_numpy(logits / np.exp(log_temperature)), torch.from_numpy(labels)
        ).item()

    found = scipy.optimize.minimize_scalar(
        loss, bounds=tuple(np.log(TEMPERATURES)), method="bounded", options={"xatol": 1e-9}
    )
    temperature = fit_temperature(logits, labels)
    assert temperature == pytest.approx(np.exp(found.x), rel=1e-4)
    assert temperature == pytest.approx(sureness, rel=0.25)  # that of the labels' distribution
    assert loss(np.log(temperature)) <= min(loss(0), found.fun + 1e-12)


def test_temperature_of_logits_that_are_scaled_is_scaled(random):
    logits, labels = random.normal(size=(60, 3)), random.integers(3, size=60)
    logits[np.arange(60), labels] += 1
    expected = fit_temperature(logits, labels)
    assert fit_temperature(7 * logits + 5, labels) == pytest.approx(7 * expected)
    assert fit_temperature(np.float32(5000 * logits), labels) is None  # beyond 1000
    assert fit_temperature(np.tile(logits, (3, 1)), np.tile(labels, 3)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        ([[2.0, 0.0], [0.0, 0.1]], [0, 1]),  # all right: T = 0
        ([[2.0, 0.0], [0.0, 3.0]], [1, 0]),  # all wrong: T is infinite
        ([[1.0, 1.0], [3.0, 3.0]], [0, 1]),  # they say nothing
        ([[2.0, 0.0], [2.0, 0.0]], [0, 1]),  # no more than chance
        ([[5.0, -5.0]], [0]),  # one example, right
        ([[5.0, -5.0]], [1]),  # one example, wrong
        ([[0.0, -np.inf], [0.0, -1.0]], [0, 0]),  # an impossible class, all right
    ],
)
def test_no_temperature_fits_best(logits, labels):
    assert fit_temperature(logits, labels) is None


def test_temperature_of_one_example():
    # Second of three: the likelihood of the label has a maximum, where the mean logit is its own.
    temperature = fit_temperature([[2.0, 1.0, -1.0]], [1])
    weights = scipy.special.softmax(np.array([2.0, 1.0, -1.0]) / temperature)
    assert weights @ [2.0, 1.0, -1.0] == pytest.approx(1.0)


@pytest.mark.parametrize("metric", [accuracy, macro_f1, matthews_correlation, pearson, spearman])
@pytest.mark.parametrize("arrays", [([], []), ([0, 1], [0, 1, 1])])
def test_arrays_that_do_not_match_are_refused(metric, arrays):
    with pytest.raises(ValueError, match="same examples"):
        metric(*arrays)


@pytest.mark.parametrize(
    "metric", [negative_log_likelihood, expected_calibration_error, fit_temperature]
)
@pytest.mark.parametrize("label", [-1, 2])
def test_label_outside_the_classes_is_refused(metric, label):
    with pytest.raises(ValueError, match="between 0 and 1"):
        metric([[0.5, 0.5]], [label])


def test_logits_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="cannot be compared"):
        kl_divergence(np.zeros((2, 3)), np.zeros((2, 1)))
