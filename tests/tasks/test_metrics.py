"""Every task's metrics, calibration and fidelity against scipy and scikit-learn."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, rel_entr
from sklearn import metrics as sklearn

from distill.core.errors import UserError
from distill.metrics import classification, regression
from distill.metrics.statistics import bootstrap_interval, paired_comparison
from distill.tasks.multi_label import MultiLabel, MultiLabelEvaluator
from distill.tasks.regression import Regression, RegressionEvaluator
from distill.tasks.sequence_classification import SequenceClassification

TASKS = (SequenceClassification, Regression, MultiLabel)


def numbers(seed=0, count=200):
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 11, count) / 2
    return (labels + draw.normal(0, 1, count)).astype(np.float32)[:, None], labels


def decisions(seed=0, count=200, classes=4):
    draw = np.random.default_rng(seed)
    labels = (draw.random((count, classes)) < [0.5, 0.3, 0.1, 0.02][:classes]).astype(np.int64)
    return (3 * labels - 1.5 + draw.normal(0, 1.5, labels.shape)).astype(np.float32), labels


class Labeled:
    """What metrics read of a split: its labels."""

    def __init__(self, labels):
        self.label_values = labels


def predictions(task, logits):
    return task.evaluator.metric_inputs(logits, Labeled(None))[0]


def values(task, logits, labels):
    return {
        name: metric(*task.evaluator.metric_inputs(logits, Labeled(labels)))
        for name, metric in task.evaluator.metrics.items()
    }


def test_regression_agrees_with_scipy():
    logits, labels = numbers()
    assert values(Regression(), logits, labels) == pytest.approx(
        {
            "pearson": stats.pearsonr(logits[:, 0], labels).statistic,
            "spearman": stats.spearmanr(logits[:, 0], labels).statistic,
            "mean_squared_error": sklearn.mean_squared_error(labels, logits[:, 0]),
        }
    )


def test_the_error_is_in_the_labels_own_units_whatever_the_scale():
    logits, labels = numbers()
    own = values(Regression(), logits, labels)
    assert values(Regression(scale=20), logits / 20, labels / 20) == pytest.approx(own, rel=1e-5)


def test_constant_numbers_correlate_with_nothing():
    _, labels = numbers()
    constant = np.full((200, 1), 2.5, dtype=np.float32)
    for logits, others in ((constant, labels), (labels[:, None], constant[:, 0])):
        found = values(Regression(), logits, others)
        assert found["pearson"] == found["spearman"] == 0
        assert found["mean_squared_error"] > 1
    for metric in Regression().evaluator.metrics.values():
        interval = bootstrap_interval(metric.function, constant[:, 0], labels, resamples=50)
        assert np.isfinite(interval.value)
    paired = paired_comparison(
        Regression().evaluator.metrics["pearson"].function, labels, constant[:, 0], labels,
        resamples=50, permutations=99,
    )  # fmt: skip
    assert paired.value == pytest.approx(1)
    assert paired.p_value == pytest.approx(0.01)


def test_multi_label_agrees_with_scikit_learn():
    logits, labels = decisions()
    said = (expit(logits) >= 0.5).astype(int)
    assert np.array_equal(predictions(MultiLabel(), logits), said)
    assert values(MultiLabel(), logits, labels) == pytest.approx(
        {
            "micro_f1": sklearn.f1_score(labels, said, average="micro"),
            "macro_f1": sklearn.f1_score(labels, said, average="macro"),
            "exact_match": sklearn.accuracy_score(labels, said),
        }
    )


def test_a_class_without_any_yes_takes_no_part_in_macro_f1():
    logits, labels = decisions()
    labels[:, 2], logits[:, 2] = 0, -5
    said = predictions(MultiLabel(), logits)
    expected = sklearn.f1_score(labels, said, average="macro", zero_division=np.nan)
    assert classification.multi_label_macro_f1(said, labels) == pytest.approx(expected)
    logits[3, 2] = 5  # predicted, and wrong
    said = predictions(MultiLabel(), logits)
    expected = sklearn.f1_score(labels, said, average="macro", zero_division=np.nan)
    assert classification.multi_label_macro_f1(said, labels) == pytest.approx(expected)
    nothing = np.zeros((5, 3), dtype=int)
    assert classification.multi_label_macro_f1(nothing, nothing) == 0
    assert classification.micro_f1(nothing, nothing) == 0
    assert classification.exact_match(nothing, nothing) == 1


def test_pearson_of_resamples_is_scipys_and_0_where_a_resample_is_constant():
    logits, labels = numbers(count=40)
    counts = np.random.default_rng(1).multinomial(40, np.full(40, 1 / 40), size=5)
    repeated = [stats.pearsonr(*(np.repeat(x, c) for x in (logits[:, 0], labels))) for c in counts]
    found = regression.correlation.from_counts(logits[:, 0], labels, counts.astype(float))
    assert found == pytest.approx([one.statistic for one in repeated], rel=1e-6)
    lone = np.zeros((1, 40))
    lone[0, 7] = 40  # the same example over and over
    assert regression.correlation.from_counts(logits[:, 0], labels, lone) == [0]
    far = stats.pearsonr(logits[:, 0].astype(float), labels).statistic
    assert regression.correlation(logits[:, 0].astype(float) + 1e6, labels * 1e-150) == (
        pytest.approx(far, abs=1e-8)
    )


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_a_model_that_spreads_its_numbers_otherwise_is_tested_as_if_it_did_not(scale):
    """Correlation does not see the scale: nor must the test that swaps predictions."""
    _, labels = numbers()
    draw = np.random.default_rng(3)
    ours, theirs = labels + draw.normal(0, 0.5, 200), labels + draw.normal(0, 2, 200)
    for metric in RegressionEvaluator.selection_metrics:
        evaluator = Regression(metric=metric).evaluator
        plain, scaled = (
            paired_comparison(
                evaluator.metrics[metric].function, evaluator.standardize(factor * ours + 3),
                evaluator.standardize(theirs), labels, resamples=50, permutations=199,
            )
            for factor in (1.0, scale)
        )  # fmt: skip
        assert scaled.p_value == pytest.approx(plain.p_value)
        assert scaled.value == pytest.approx(plain.value)
        assert scaled.p_value == pytest.approx(1 / 200)


@pytest.mark.parametrize("name", MultiLabelEvaluator.selection_metrics)
def test_counts_of_resamples_are_resamples(name):
    """What the bootstrap draws as counts is what it would be of repeated examples."""
    metric = MultiLabel().evaluator.metrics[name].function
    logits, labels = decisions(count=30)
    said = predictions(MultiLabel(), logits)
    counts = np.random.default_rng(1).multinomial(30, np.full(30, 1 / 30), size=5)
    repeated = [metric(np.repeat(said, c, axis=0), np.repeat(labels, c, axis=0)) for c in counts]
    assert metric.from_counts(said, labels, counts.astype(float)) == pytest.approx(repeated)


def test_multi_label_calibration_is_that_of_the_decisions():
    logits, labels = decisions()
    probability = expit(logits.astype(float)).reshape(-1)
    found = MultiLabel().evaluator.calibration(logits, labels)
    assert found["negative_log_likelihood"] == pytest.approx(
        sklearn.log_loss(labels.reshape(-1), probability)
    )
    confidence = np.maximum(probability, 1 - probability)
    right = (probability >= 0.5) == labels.reshape(-1)
    bins = np.clip(np.ceil(confidence * 15).astype(int), 1, 15)
    expected = sum(
        abs(right[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).mean()
        for b in np.unique(bins)
    )
    assert found["expected_calibration_error"] == pytest.approx(expected)


def test_multi_label_fidelity_is_over_the_decisions():
    (student, _), (teacher, _) = decisions(1), decisions(2)
    found = MultiLabel().evaluator.fidelity(student, teacher)
    p, q = expit(teacher.astype(float)), expit(student.astype(float))
    divergence = (rel_entr(p, q) + rel_entr(1 - p, 1 - q)).sum(axis=1).mean()
    assert found["kl_divergence"] == pytest.approx(divergence)
    assert found["agreement"] == pytest.approx(((p >= 0.5) == (q >= 0.5)).mean())
    same = MultiLabel().evaluator.fidelity(teacher, teacher)
    assert same == {"agreement": 1.0, "kl_divergence": pytest.approx(0, abs=1e-12)}
    huge = MultiLabel().evaluator.fidelity(np.array([[500.0]]), np.array([[-500.0]]))
    assert huge["kl_divergence"] == pytest.approx(500)


def test_regression_has_neither_calibration_nor_decisions():
    logits, labels = numbers()
    assert Regression().evaluator.calibration(logits, labels) is None
    found = Regression().evaluator.fidelity(logits, labels[:, None])
    assert found["agreement"] is found["kl_divergence"] is None
    assert found["correlation"] == pytest.approx(stats.pearsonr(logits[:, 0], labels).statistic)


def test_by_class_agrees_with_scikit_learn():
    draw = np.random.default_rng(0)
    labels, logits = draw.integers(0, 3, 100), draw.normal(size=(100, 4)).astype(np.float32)
    logits[:, 3] = -9  # neither labelled nor predicted
    found = SequenceClassification().evaluator.per_class_scores(
        logits, Labeled(labels), ["a", "b", "c", "d"]
    )
    expected = sklearn.precision_recall_fscore_support(
        labels, logits.argmax(1), labels=[0, 1, 2], zero_division=0
    )
    for index, name in enumerate("abc"):
        assert list(found[name].values()) == pytest.approx([part[index] for part in expected])
    assert found["d"] == {"precision": None, "recall": None, "f1": None, "support": 0}
    logits, labels = decisions()
    found = MultiLabel().evaluator.per_class_scores(logits, Labeled(labels), list("abcd"))
    expected = sklearn.precision_recall_fscore_support(labels, logits >= 0, zero_division=0)
    for index, name in enumerate("abcd"):
        assert list(found[name].values()) == pytest.approx([part[index] for part in expected])


@pytest.mark.parametrize("kind", TASKS)
def test_the_metric_asked_for_comes_first(kind):
    for metric in kind().evaluator.selection_metrics:
        task = kind(metric=metric)
        assert task.evaluator.metric_name == task.evaluator.selection_metric.name == metric
        assert next(iter(task.evaluator.metrics)) == metric
        assert set(task.evaluator.metrics) == set(kind().evaluator.metrics)
    with pytest.raises(UserError, match=r"task\.metric=bleu: choose one of"):
        kind(metric="bleu")


def test_the_best_checkpoint_goes_by_a_correlation():
    with pytest.raises(UserError, match="choose pearson or spearman"):
        Regression(metric="mean_squared_error")
    with pytest.raises(UserError, match="must be above 0"):
        Regression(scale=0)
