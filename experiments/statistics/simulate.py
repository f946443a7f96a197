"""Simulate how often the reports' intervals hold the truth, and their verdicts are false.

    python experiments/statistics/simulate.py seeds --trials 1000
    python experiments/statistics/simulate.py power --trials 200
    python experiments/statistics/simulate.py examples --trials 400
    python experiments/statistics/simulate.py metrics --trials 300

prints the tables of RESULTS.md. `tests/metrics/test_resampling.py` runs a few cells of each.

The model of `seeds`: example i has the logit :math:`l_i \\sim N(m, \\tau^2)` of being answered
correctly, with m and tau such that accuracy is 88 % and two trainings of the same method disagree
on 8 % of the examples. Training s has a luck of its own, :math:`a_s \\sim N(0, \\sigma^2)`, whose
spread is given as that of expected accuracy, and answers correctly with the probability
:math:`\\mathrm{sigmoid}(l_i + a_s)`, each training by itself: even without :math:`a_s`, seeds flip
single examples. Student and control may differ on examples without differing on average,
:math:`\\pm d_i / 2` with :math:`d_i \\sim N(0, \\omega^2)`. A true gain shifts the student's logit.
The truth is the expectation over trainings and examples.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from distill.metrics import calibration, classification, regression, squad
from distill.metrics.base import CountMetric
from distill.metrics.resampling import ExampleResamples, seeds_interval
from distill.metrics.statistics import (
    bias_corrected_ends,
    bootstrap_interval,
    calibration_error_interval,
    paired_comparison,
)

Floats = NDArray[np.float64]
EXAMPLES = (200, 1821, 5463, 25_000)
DEVIATIONS = (0.0, 0.3, 0.6, 1.0)
SEEDS = (2, 3, 5, 10)
MEAN_LOGIT, LOGIT_SPREAD = 6.2, 5.0


def sigmoid(x: Floats) -> Floats:
    """Return the logistic function."""
    return np.asarray(1 / (1 + np.exp(-x)))


def expected_accuracy(shift: Floats | float = 0.0) -> Floats:
    """Return the expectation over examples at some shifts of the logit."""
    points = np.linspace(-6, 6, 2001)
    logits = MEAN_LOGIT + LOGIT_SPREAD * points
    weights = np.exp(-(points**2) / 2)
    weights = weights / weights.sum()
    return np.asarray(sigmoid(logits + np.atleast_1d(shift)[:, None]) @ weights)


@functools.cache
def logit_shift(gain: float) -> float:
    """Return the shift of the logit that raises expected accuracy by a gain."""
    shifts = np.linspace(0, 3, 301)
    return float(np.interp(expected_accuracy()[0] + gain, expected_accuracy(shifts), shifts))


@functools.cache
def logit_slope() -> float:
    """Return by how much expected accuracy rises with the logit."""
    low, high = expected_accuracy(np.array([-0.01, 0.01]))
    return float(high - low) / 0.02


class Trainings(NamedTuple):
    """Which examples student and control answer correctly, ``(S, N)`` each."""

    student: Floats
    control: Floats


def draw_trainings(
    random: np.random.Generator,
    examples: int,
    seeds: int,
    deviation: float,
    gain: float = 0.0,
    spread: float = 0.0,
) -> Trainings:
    """Draw what S students and S controls answer.

    Args:
        random: generator.
        examples: number of examples.
        seeds: number of seeds.
        deviation: standard deviation of expected accuracy between seeds, in points.
        gain: true gain of the student.
        spread: standard deviation of the logits' differences between student and control.
    """
    slope = logit_slope()
    logits = random.normal(MEAN_LOGIT, LOGIT_SPREAD, examples)
    differs = random.normal(0, spread, examples) if spread else np.zeros(examples)
    found = []
    for sign in (1, -1):
        shift = logit_shift(gain) if sign > 0 and gain else 0.0
        luck = random.normal(0, deviation / 100 / slope, (seeds, 1))
        chance = sigmoid(logits + sign * differs / 2 + shift + luck)
        found.append((random.random((seeds, examples)) < chance).astype(float))
    return Trainings(*found)


def resampled_means(random: np.random.Generator, rows: Floats, resamples: int = 500) -> Floats:
    """Draw means over resampled examples, ``(S, R)``, from their normal limit.

    It has the bootstrap's own mean and covariance, and takes no time for 25,000 examples.
    """
    covariance = np.atleast_2d(np.cov(rows, bias=True)) / rows.shape[1]
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0))
    drawn = random.normal(size=(len(rows), resamples))
    drawn -= drawn.mean(axis=1, keepdims=True)
    return np.asarray(rows.mean(axis=1)[:, None] + root @ drawn)


# ---------------------------------------------------------------------------------------- seeds
@dataclass
class SeedsCell:
    """Counts of one cell: trials, verdicts, and intervals that hold the truth."""

    trials: int
    verdicts: float
    covered: float
    welch: float
    bootstrap: float
    one_seed: float


def two_way_cell(
    random: np.random.Generator,
    trials: int,
    examples: int,
    seeds: int,
    deviation: float,
    gain: float = 0.0,
    spread: float = 0.0,
) -> SeedsCell:
    """Simulate the gain over the control; see the columns of :func:`print_seeds`."""
    verdict = covered = welch = crossed = one = 0
    for _ in range(trials):
        drawn = draw_trainings(random, examples, seeds, deviation, gain, spread)
        rows = drawn.student - drawn.control
        values = rows.mean(axis=1)
        resampled = resampled_means(random, rows)
        interval = seeds_interval(values.tolist(), resampled)
        verdict += interval.p_value is not None and interval.p_value < 0.05
        if interval.low is not None and interval.high is not None:
            covered += interval.low <= gain <= interval.high
        welch += _welch_holds(values, resampled, gain)
        picked = random.integers(0, seeds, (resampled.shape[1], seeds))
        means = resampled[picked, np.arange(resampled.shape[1])[:, None]].mean(axis=1)
        low, high = np.quantile(means, [0.025, 0.975])
        crossed += low <= gain <= high
        first = resampled[0]
        low, high = np.quantile(first, [0.025, 0.975])
        one += not low <= 0 <= high
    return SeedsCell(trials, *(x / trials for x in (verdict, covered, welch, crossed, one)))


def _welch_holds(values: Floats, resampled: Floats, truth: float) -> bool:
    """Whether the interval that reports had before holds the truth: see `reporting/gain.py`."""
    from scipy.stats import t

    count = len(values)
    training = values.var(ddof=1) / count
    variance = training + resampled.var(axis=1).mean()
    if variance == 0:
        return bool(values.mean() == truth)
    freedom = 500.0 if training == 0 else min(500, (count - 1) * (variance / training) ** 2 // 1)
    return bool(abs(values.mean() - truth) <= t.ppf(0.975, freedom) * np.sqrt(variance))


def mean_and_retention_cell(
    random: np.random.Generator, trials: int, examples: int, seeds: int, deviation: float
) -> tuple[float, float]:
    """Return the coverage of the student's mean and of its retention of one teacher."""
    slope = logit_slope()
    lucks = np.linspace(-4, 4, 401) * deviation / 100 / slope
    weights = np.exp(-(np.linspace(-4, 4, 401) ** 2) / 2)
    truth = float(expected_accuracy(lucks) @ weights / weights.sum())
    best = float(expected_accuracy(0.5)[0])
    mean = kept = 0
    for _ in range(trials):
        logits = random.normal(MEAN_LOGIT, LOGIT_SPREAD, examples)
        luck = random.normal(0, deviation / 100 / slope, (seeds, 1))
        students = (random.random((seeds, examples)) < sigmoid(logits + luck)).astype(float)
        teacher = (random.random(examples) < sigmoid(logits + 0.5)).astype(float)
        resampled = resampled_means(random, np.vstack([students, teacher]))
        interval = seeds_interval(students.mean(axis=1).tolist(), resampled[:-1])
        mean += _holds(interval.low, interval.high, truth)
        ratios = students.mean(axis=1) / teacher.mean()
        interval = seeds_interval(ratios.tolist(), resampled[:-1] / resampled[-1])
        kept += _holds(interval.low, interval.high, truth / best)
    return mean / trials, kept / trials


def _holds(low: float | None, high: float | None, truth: float) -> bool:
    return low is not None and high is not None and low <= truth <= high


def print_seeds(trials: int, seed: int) -> None:
    """Print false verdicts and coverage over seeds, and power."""
    random = np.random.default_rng(seed)
    accuracy = expected_accuracy()[0]
    print(f"expected accuracy {accuracy:.3f}; {trials} trials a cell\n")
    head = ["examples", "sd, points", "seeds", "helped or hurt", "coverage", "Welch", "crossed",
            "one seed, today"]  # fmt: skip
    print_row(head, rule=True)
    for examples, deviation, seeds in itertools.product(EXAMPLES, DEVIATIONS, SEEDS):
        cell = two_way_cell(random, trials, examples, seeds, deviation)
        other = two_way_cell(random, trials // 2, examples, seeds, deviation, spread=1.0)
        print_row([examples, deviation, seeds, percent(cell.verdicts),
                   f"{percent(cell.covered)} / {percent(other.covered)}", percent(cell.welch),
                   percent(cell.bootstrap), percent(cell.one_seed)])  # fmt: skip
    print("\nmean over seeds, and retention\n")
    print_row(["examples", "sd, points", "seeds", "mean", "retention"], rule=True)
    for examples, deviation, seeds in itertools.product((200, 1821, 25_000), (0.0, 0.6), SEEDS):
        mean, kept = mean_and_retention_cell(random, trials // 2, examples, seeds, deviation)
        print_row([examples, deviation, seeds, percent(mean), percent(kept)])


def print_power(trials: int, seed: int) -> None:
    """Print how often a true gain of two points is shown."""
    random = np.random.default_rng(seed)
    print_row(["examples", "sd, points", "1 seed", "3", "5", "10"], rule=True)
    for examples, deviation in itertools.product(EXAMPLES, DEVIATIONS):
        powers = [
            two_way_cell(random, trials, examples, seeds, deviation, gain=0.02).verdicts
            for seeds in (3, 5, 10)
        ]
        print_row([examples, deviation, "none", *map(percent, powers)])


# ------------------------------------------------------------------------------------- examples
Arrays = tuple[NDArray[np.generic], ...]


@dataclass(frozen=True)
class Case:
    """A metric and a source of test sets.

    Attributes:
        name: for the table.
        metric: what is reported.
        draw: draws the metric's arrays and the clusters, or None, of a test set.
        truth: the metric's value on an endless test set; None: on one of a million examples.
    """

    name: str
    metric: CountMetric
    draw: Callable[[np.random.Generator, int], tuple[Arrays, NDArray[np.int64] | None]]
    truth: float | None = None

    def true_value(self, random: np.random.Generator) -> float:
        """Return the value on an endless test set."""
        if self.truth is not None:
            return self.truth
        values = [float(self.metric(*self.draw(random, 200_000)[0])) for _ in range(10)]
        return float(np.mean(values))


@CountMetric
def entity_f1(found: NDArray[np.int64], counts: Floats) -> Floats:
    """F1 of correct, predicted and true entities, ``(N, 3)``."""
    correct, predicted, true = (counts @ found).T
    return np.asarray(2 * correct / np.maximum(predicted + true, 1))


@CountMetric
def perplexity(sums: Floats, counts: Floats) -> Floats:
    """Perplexity of sums of losses and numbers of tokens, ``(N, 2)``."""
    losses, tokens = (counts @ sums).T
    return np.asarray(np.exp(losses / tokens))


def draw_classes(prior: Iterable[float], recall: Iterable[float]):
    """Return a source of labels and predictions; wrong ones follow the prior of the others."""
    shares, kept = np.array(list(prior)), np.array(list(recall))

    def draw(random: np.random.Generator, number: int):
        labels = random.choice(len(shares), number, p=shares)
        predictions = labels.copy()
        wrong = random.random(number) > kept[labels]
        for one in range(len(shares)):
            others = np.delete(np.arange(len(shares)), one)
            chance = shares[others] / shares[others].sum()
            rows = wrong & (labels == one)
            predictions[rows] = random.choice(others, rows.sum(), p=chance)
        return (predictions, labels), None

    return draw


def draw_pairs(random: np.random.Generator, number: int):
    """Correlated numbers, 0.85 before both are rounded to the labels' range from 0 to 5."""
    targets = random.normal(2.6, 1.4, number)
    predictions = 2.6 + 0.85 * (targets - 2.6) + random.normal(0, 1.4 * 0.53, number)
    return (np.clip(predictions, 0, 5), np.clip(targets.round(1), 0, 5)), None


def draw_entities(random: np.random.Generator, number: int):
    """Entities of sentences that are hard or easy as a whole."""
    true = random.poisson(1.7, number)
    correct = random.binomial(true, random.beta(6, 1.2, number))
    return (np.stack([correct, correct + random.poisson(0.22, number), true], axis=1),), None


def draw_questions(random: np.random.Generator, number: int):
    """Exact match and F1 of questions, some five on a paragraph, which is hard or easy."""
    sizes = 1 + random.poisson(4, number)
    clusters = np.repeat(np.arange(number), sizes)[:number]
    logits = random.normal(1.2, 1.6, number)[clusters] + random.normal(0, 1, number)
    exact = random.random(number) < sigmoid(logits)
    partial = random.beta(1, 2, number) * (random.random(number) < 0.6)
    return (np.stack([exact, np.where(exact, 1.0, partial)], axis=1),), clusters


def draw_token_losses(random: np.random.Generator, number: int):
    """Sums of skewed losses over the masked tokens of each row, and their numbers."""
    tokens = 1 + random.poisson(3, number)
    ease = random.gamma(3, 1 / 3, number)
    return (np.stack([random.gamma(0.6 * tokens, 3.5) * ease, tokens], axis=1),), None


def draw_losses(random: np.random.Generator, number: int):
    """Negative log-likelihoods of a confident classifier: most near 0, some large."""
    logits = random.normal(3.0, 2.5, number)
    return (np.logaddexp(0, -logits),), None


def draw_confidences(overconfidence: float):
    """Return a source of confidence and correctness."""

    def draw(random: np.random.Generator, number: int):
        confidence = 0.5 + 0.5 * random.beta(3, 0.6, number)
        chance = confidence - overconfidence * (confidence - 0.4)
        return (np.stack([confidence, random.random(number) < chance], axis=1),), None

    return draw


CASES = (
    Case("accuracy 88 %", classification.accuracy, draw_classes((0.5, 0.5), (0.88, 0.88)), 0.88),
    Case("accuracy 99 %", classification.accuracy, draw_classes((0.5, 0.5), (0.99, 0.99)), 0.99),
    Case("macro F1, a class of 1 %", classification.macro_f1,
         draw_classes((0.5, 0.3, 0.19, 0.01), (0.9, 0.85, 0.8, 0.5))),
    Case("Matthews", classification.matthews_correlation, draw_classes((0.3, 0.7), (0.8, 0.9))),
    Case("Pearson", regression.correlation, draw_pairs),
    Case("entity F1", entity_f1, draw_entities),
    Case("SQuAD F1 by paragraph", squad.f1, draw_questions),
    Case("perplexity", perplexity, draw_token_losses),
    Case("NLL", calibration.mean_loss, draw_losses),
    Case("ECE, overconfident", calibration.binned_error, draw_confidences(0.2)),
    Case("ECE, nearly calibrated", calibration.binned_error, draw_confidences(0.01)),
)  # fmt: skip


def example_cell(
    random: np.random.Generator, case: Case, trials: int, examples: int, resamples: int = 1000
) -> tuple[float, float, float]:
    """Return the shares of test sets whose interval holds the truth, lies below, and is missing."""
    truth, covered, below, missing = case.true_value(random), 0, 0, 0
    for _ in range(trials):
        arrays, clusters = case.draw(random, examples)
        seed = int(random.integers(2**31))
        if case.metric is calibration.binned_error:
            interval = calibration_error_interval(
                *arrays, clusters=clusters, resamples=resamples, seed=seed
            )
        else:
            interval = bootstrap_interval(
                case.metric, *arrays, clusters=clusters, resamples=resamples, seed=seed
            )
        missing += interval.low is None
        covered += _holds(interval.low, interval.high, truth)
        below += interval.high is not None and interval.high < truth
    return covered / trials, below / trials, missing / trials


def paired_cells(
    random: np.random.Generator, trials: int, examples: int
) -> dict[str, tuple[float, float]]:
    """Return coverage and false positives of paired differences, and coverage of retention.

    Two models of one distribution, with one teacher; one seed.
    """
    counts = {name: np.zeros(2) for name in ("accuracy", "ECE", "NLL", "retention")}
    truth = float(expected_accuracy()[0] / expected_accuracy(0.5)[0])
    for _ in range(trials):
        logits = random.normal(MEAN_LOGIT, LOGIT_SPREAD, examples)
        correct = [random.random(examples) < sigmoid(logits + extra) for extra in (0.0, 0.0, 0.5)]
        ones = np.ones(examples, dtype=bool)
        found = {"accuracy": paired_comparison(
            classification.accuracy, correct[0], correct[1], ones, resamples=500)}  # fmt: skip
        confident = [
            sigmoid(np.abs(logits / 2 + random.normal(0, 0.7, examples))) for _ in range(2)
        ]
        pairs = [
            np.stack([sure, random.random(examples) < sure - 0.15 * (sure - 0.4)], axis=1)
            for sure in confident
        ]
        losses = [-np.log(np.where(pair[:, 1] > 0, pair[:, 0], 1 - pair[:, 0])) for pair in pairs]
        # Other swaps for each test set: a test by fixed ones is exact only on average over them.
        options = {
            "resamples": 500, "permutations": 499, "seed": int(random.integers(2**31))
        }  # fmt: skip
        found["ECE"] = paired_comparison(calibration.binned_error, *pairs, **options)
        found["NLL"] = paired_comparison(calibration.mean_loss, *losses, **options)
        for name, one in found.items():
            covered = one.low is None or one.high is None or one.low <= 0 <= one.high
            counts[name] += covered, one.p_value < 0.05
        rows = resampled_means(random, np.stack([correct[0], correct[2]]).astype(float))
        kept = correct[0].mean() / correct[2].mean()
        counts["retention"][0] += _holds(*bias_corrected_ends(rows[0] / rows[1], kept), truth)
    return {name: (covered / trials, false / trials) for name, (covered, false) in counts.items()}


def print_examples(trials: int, seed: int) -> None:
    """Print the coverage of the intervals of one model, and of paired differences."""
    random = np.random.default_rng(seed)
    sizes = EXAMPLES[:3]
    print_row(["metric", *(f"{size:,} examples" for size in sizes)], rule=True)
    for case in CASES:
        cells = []
        for size in sizes:
            covered, below, missing = example_cell(random, case, trials, size)
            none = f", none {percent(missing)}" if missing else ""
            cells.append(f"{percent(covered)} (below {percent(below)}{none})")
        print_row([case.name, *cells])
    print("\npaired differences of one seed: coverage, and p < 0.05 of equal models\n")
    print_row(["metric", *(f"{size:,} examples" for size in sizes[:2])], rule=True)
    columns = [paired_cells(random, trials, size) for size in sizes[:2]]
    for name in columns[0]:
        false = [None if name == "retention" else column[name][1] for column in columns]
        print_row([name, *(
            percent(column[name][0]) + ("" if one is None else f", {percent(one)}")
            for column, one in zip(columns, false, strict=True)
        )])  # fmt: skip


# -------------------------------------------------------------------- seeds, of every metric
State = tuple[NDArray[np.generic], ...]


@dataclass(frozen=True)
class SeedsCase:
    """A metric of several trainings that are measured on the same examples.

    Attributes:
        name: for the table.
        metric: what is reported.
        draw: draws what examples are like, whatever the model, and their clusters or None.
        answer: draws the metric's own arrays of one training with a luck (standard normal, times
            :data:`LUCK`), from what the examples are like.
        shared: returns the arrays that all models share, the labels.
    """

    name: str
    metric: CountMetric
    draw: Callable[[np.random.Generator, int], tuple[State, NDArray[np.int64] | None]]
    answer: Callable[[np.random.Generator, State, float], NDArray[np.generic]]
    shared: Callable[[State], State] = lambda state: ()

    def true_mean(self, random: np.random.Generator, luck: float) -> float:
        """Return the expectation over trainings of the value on an endless test set."""
        values = []
        for place in (np.arange(40) + 0.5) / 40:
            state, _ = self.draw(random, 50_000)
            one = luck * statistics.NormalDist().inv_cdf(place)
            values.append(float(self.metric(self.answer(random, state, one), *self.shared(state))))
        return float(np.mean(values))


#: Spread of a training's luck, in logits: about 0.6 points of an accuracy of 88 %.
LUCK = 0.06
#: Variance of what makes an example hard that all trainings share; the rest is each one's own.
SHARED_VARIANCE = 0.7


def _own(random: np.random.Generator, latent: Floats, luck: float) -> Floats:
    """Mix what all trainings share of an example, N(0, 1), with a training's own; add its luck."""
    own = random.normal(size=latent.shape)
    mixed = np.sqrt(SHARED_VARIANCE) * latent + np.sqrt(1 - SHARED_VARIANCE) * own
    return np.asarray(mixed + luck)


def classes_of_seeds(prior: Iterable[float], recall: Iterable[float]):
    """Return source and answers of labels; wrong ones follow the prior of the others."""
    shares, kept = np.array(list(prior)), np.array(list(recall))
    limits = np.array([statistics.NormalDist().inv_cdf(one) for one in kept])

    def draw(random: np.random.Generator, number: int):
        return (random.choice(len(shares), number, p=shares), random.normal(size=number)), None

    def answer(random: np.random.Generator, state: State, luck: float):
        labels, latent = state
        predictions = labels.copy()
        wrong = -_own(random, latent, luck) > limits[labels]
        for one in range(len(shares)):
            others = np.delete(np.arange(len(shares)), one)
            rows = wrong & (labels == one)
            chance = shares[others] / shares[others].sum()
            predictions[rows] = random.choice(others, rows.sum(), p=chance)
        return predictions

    return draw, answer


def draw_targets(random: np.random.Generator, number: int):
    """Labels from 0 to 5, and what is hard of each."""
    return (np.clip(random.normal(2.6, 1.4, number), 0, 5).round(1), random.normal(size=number)), (
        None
    )


def answer_targets(random: np.random.Generator, state: State, luck: float):
    """Predictions with a correlation of some 0.85; luck makes all errors smaller."""
    targets, latent = state
    error = np.exp(-luck) * _own(random, latent, 0.0)
    return np.clip(2.6 + 0.85 * (targets - 2.6) + 1.4 * 0.53 * error, 0, 5)


def draw_sentences(random: np.random.Generator, number: int):
    """Numbers of entities, and sentences that are easy or hard as a whole."""
    return (random.poisson(1.7, number), random.normal(size=number)), None


def answer_sentences(random: np.random.Generator, state: State, luck: float):
    """Correct, predicted and true entities."""
    true, latent = state
    correct = random.binomial(true, sigmoid(1.8 + 1.2 * _own(random, latent, luck)))
    return np.stack([correct, correct + random.poisson(0.22, len(true)), true], axis=1)


def draw_paragraphs(random: np.random.Generator, number: int):
    """Questions, some five on a paragraph, which is hard or easy."""
    clusters = np.repeat(np.arange(number), 1 + random.poisson(4, number))[:number]
    latent = (random.normal(size=number)[clusters] + random.normal(size=number)) / np.sqrt(2)
    return (latent,), clusters


def answer_paragraphs(random: np.random.Generator, state: State, luck: float):
    """Exact match and F1."""
    exact = _own(random, state[0], luck) > -0.6
    partial = random.beta(1, 2, len(exact)) * (random.random(len(exact)) < 0.6)
    return np.stack([exact, np.where(exact, 1.0, partial)], axis=1)


def draw_rows_of_tokens(random: np.random.Generator, number: int):
    """Numbers of masked tokens, and rows that are easy or hard as a whole."""
    return (1 + random.poisson(3, number), random.normal(size=number)), None


def answer_rows_of_tokens(random: np.random.Generator, state: State, luck: float):
    """Sums of losses, and numbers of tokens."""
    tokens, latent = state
    ease = np.exp(-0.5 * _own(random, latent, luck))
    return np.stack([random.gamma(0.6 * tokens, 3.5) * ease, tokens], axis=1)


def draw_latent(random: np.random.Generator, number: int):
    """What is hard of each example."""
    return (random.normal(size=number),), None


def answer_losses(random: np.random.Generator, state: State, luck: float):
    """Negative log-likelihoods of a confident classifier."""
    return np.logaddexp(0, -(3.0 + 2.5 * _own(random, state[0], luck)))


def answer_confidences(random: np.random.Generator, state: State, luck: float):
    """Confidence and correctness of an overconfident classifier; luck calibrates it."""
    confidence = 0.5 + 0.5 * sigmoid(1.6 + 1.2 * _own(random, state[0], 0.0))
    chance = confidence - (0.2 - luck / 2) * (confidence - 0.4)
    return np.stack([confidence, random.random(len(chance)) < chance], axis=1)


def _labels(state: State) -> State:
    return (state[0],)


SEEDS_CASES = (
    SeedsCase("accuracy 88 %", classification.accuracy,
              *classes_of_seeds((0.5, 0.5), (0.88, 0.88)), _labels),
    SeedsCase("macro F1, a class of 1 %", classification.macro_f1,
              *classes_of_seeds((0.5, 0.3, 0.19, 0.01), (0.9, 0.85, 0.8, 0.5)), _labels),
    SeedsCase("Matthews", classification.matthews_correlation,
              *classes_of_seeds((0.3, 0.7), (0.8, 0.9)), _labels),
    SeedsCase("Pearson", regression.correlation, draw_targets, answer_targets, _labels),
    SeedsCase("entity F1", entity_f1, draw_sentences, answer_sentences),
    SeedsCase("SQuAD F1 by paragraph", squad.f1, draw_paragraphs, answer_paragraphs),
    SeedsCase("perplexity", perplexity, draw_rows_of_tokens, answer_rows_of_tokens),
    SeedsCase("NLL", calibration.mean_loss, draw_latent, answer_losses),
    SeedsCase("ECE, overconfident", calibration.binned_error, draw_latent, answer_confidences),
)  # fmt: skip


class SeedsMetricCell(NamedTuple):
    """Shares of runs: intervals that hold the truth, and false "helped" or "hurt"."""

    difference: float
    mean: float
    verdicts: float
    missing: float


def seeds_metric_cell(
    random: np.random.Generator,
    case: SeedsCase,
    trials: int,
    examples: int,
    seeds: int,
    luck: float = LUCK,
    resamples: int = 500,
    truth: float | None = None,
) -> SeedsMetricCell:
    """Simulate student and control of one training method, by the reports' own resampling.

    The truth of the mean takes longer than all trials: give one, if the mean does not matter.
    """
    truth = case.true_mean(random, luck) if truth is None else truth
    held = mean = verdicts = missing = 0
    for _ in range(trials):
        state, clusters = case.draw(random, examples)
        answers = [case.answer(random, state, luck * random.normal()) for _ in range(2 * seeds)]
        drawn = ExampleResamples(examples, clusters, resamples, int(random.integers(2**31)))
        resampled = drawn.values(case.metric, answers, *case.shared(state))
        values = np.array([float(case.metric(one, *case.shared(state))) for one in answers])
        gain = seeds_interval(
            (values[:seeds] - values[seeds:]).tolist(), resampled[:seeds] - resampled[seeds:]
        )
        own = seeds_interval(values[:seeds].tolist(), resampled[:seeds])
        missing += gain.low is None
        held += gain.low is None or _holds(gain.low, gain.high, 0.0)
        mean += _holds(own.low, own.high, truth)
        verdicts += gain.p_value is not None and gain.p_value < 0.05
    return SeedsMetricCell(*(one / trials for one in (held, mean, verdicts, missing)))


def print_metrics(trials: int, seed: int) -> None:
    """Print coverage and false verdicts over seeds, of every metric."""
    random = np.random.default_rng(seed)
    cells = list(itertools.product((200, 1821), (2, 3, 5)))
    print("gain over the control / mean / false verdicts\n")
    print_row(["metric", *(f"{n:,} examples, {s} seeds" for n, s in cells)], rule=True)
    for case in SEEDS_CASES:
        found = [seeds_metric_cell(random, case, trials, n, s) for n, s in cells]
        print_row([case.name, *(
            f"{percent(one.difference)} / {percent(one.mean)} / {percent(one.verdicts)}"
            + (f", none {percent(one.missing)}" if one.missing else "")
            for one in found
        )])  # fmt: skip


def percent(share: float) -> str:
    """Write a share in percent."""
    return f"{100 * share:.1f} %"


def print_row(cells: Iterable[object], rule: bool = False) -> None:
    """Print a row of a Markdown table; the head with the rule below it."""
    texts = [str(cell) for cell in cells]
    print(f"| {' | '.join(texts)} |", flush=True)
    if rule:
        print("|" + "---|" * len(texts), flush=True)


def main() -> None:
    """Run the part that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("part", choices=["seeds", "power", "examples", "metrics"])
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    parts = {
        "seeds": print_seeds,
        "power": print_power,
        "examples": print_examples,
        "metrics": print_metrics,
    }
    parts[args.part](args.trials, args.seed)


if __name__ == "__main__":
    main()
