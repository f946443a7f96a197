"""Whether a teacher's outputs mean what the labels of the data mean."""

import json
from collections.abc import Sequence

import numpy as np

from distill.core.jagged import ArrayOrJagged, JaggedArray
from distill.data.dataset import DistillationDataset
from distill.data.labels import IGNORED_LABEL
from distill.metrics.regression import correlation
from distill.reporting.text import percent
from distill.tasks.base import Task

# Another meaning of the outputs has to raise the mean correlation with the labels by this much, and
# by this many standard errors of a correlation: chance alone finds some permutation that is better.
LEAST_GAIN, STANDARD_ERRORS = 0.2, 4.0
# From this correlation on a teacher's numbers are taken to measure what the labels do.
LEAST_CORRELATION = 0.3


def teacher_notes(
    logits: ArrayOrJagged,
    examples: DistillationDataset,
    task: Task,
    names: Sequence[str],
    output_order: Sequence[int],
) -> list[str]:
    """Return notes on a teacher that disagrees with the labels more than a weak one would.

    Classes and labels: if another assignment of the outputs to the classes fits much better, as it
    does where ``LABEL_0``, ``LABEL_1``, ... are in another order. Numbers: if they correlate with
    the labels but are in other units, or run against them.

    Args:
        logits: the teacher's, of every example.
        examples: the split, with labels.
        task: decides what logits mean.
        names: names of the outputs.
        output_order: index of each name in the teacher's own head.
    """
    values = logits.values if isinstance(logits, JaggedArray) else np.asarray(logits)
    labels, distribution = examples.label_values, task.criterion.distribution
    if values.shape[1:] != (len(names),) or len(values) != len(labels):
        return []
    if distribution == "gaussian":
        return _units(values[:, 0], labels)
    if distribution == "categorical":
        known = labels != IGNORED_LABEL
        classes = np.arange(len(names))
        predicted = values[known].argmax(axis=-1)[:, None] == classes
        return _permutation(predicted, labels[known][:, None] == classes, names, output_order)
    if distribution == "bernoulli":
        return _permutation(values >= 0, labels == 1, names, output_order)
    return []


def _permutation(
    predicted: np.ndarray, labeled: np.ndarray, names: Sequence[str], output_order: Sequence[int]
) -> list[str]:
    """Return a note if another assignment of outputs to labels fits better; ``(N, C)`` each."""
    from scipy.optimize import linear_sum_assignment  # slow to import

    correlations = _correlations(predicted, labeled)
    occurring = labeled.any(axis=0)
    outputs, meanings = linear_sum_assignment(correlations, maximize=True)
    gain = (
        correlations[outputs, meanings].sum() - np.trace(correlations)
    ) / max(occurring.sum(), 1)  # fmt: skip
    if gain < max(LEAST_GAIN, STANDARD_ERRORS / np.sqrt(len(labeled))):
        return []
    shares = [
        float((predicted == labeled[:, order]).all(axis=1).mean())
        for order in (np.arange(len(names)), meanings)
    ]
    labels = [""] * len(names)
    for output, meaning in zip(outputs, meanings, strict=True):
        labels[output_order[output]] = names[meaning]
    option = json.dumps(labels, ensure_ascii=False, separators=(",", ":"))
    return [
        f"The teacher's classes do not fit the labels: it agrees with {percent(shares[0])} of them,"
        f" and would with {percent(shares[1])} if its outputs meant {', '.join(labels)} in this"
        f" order. If they do: 'teacher.labels={option}'."
    ]


def _correlations(predicted: np.ndarray, labeled: np.ndarray) -> np.ndarray:
    """Return the correlation of each decision with each label, ``(C, C)``; 0 of a constant."""
    first, second = (array - array.mean(axis=0) for array in (predicted, labeled))
    scale = np.sqrt(np.outer((first**2).sum(axis=0), (second**2).sum(axis=0)))
    covariance = first.T @ second
    result: np.ndarray = np.divide(covariance, scale, out=np.zeros_like(scale), where=scale > 0)
    return result


def _units(predicted: np.ndarray, labels: np.ndarray) -> list[str]:
    """Return a note if numbers correlate with the labels, but are no estimate of them."""
    known = np.isfinite(labels)
    predicted, labels = predicted[known].astype(np.float64), labels[known]
    together = correlation(predicted, labels)
    least = max(LEAST_CORRELATION, STANDARD_ERRORS / np.sqrt(max(len(labels), 1)))
    if together < -least:
        return [
            f"The teacher's numbers fall where the labels rise (correlation {together:.3f}): does "
            "one of them measure a distance and the other a similarity?"
        ]
    # Worse than the mean of the labels, although it knows which are larger.
    if together < least or np.mean((predicted - labels) ** 2) <= labels.var():
        return []
    return [
        f"The teacher's numbers are not in the units of the labels: they have the mean "
        f"{predicted.mean():.3g} and the standard deviation {predicted.std():.3g}, the labels "
        f"{labels.mean():.3g} and {labels.std():.3g} (correlation {together:.3f}). Soft and hard "
        "labels then pull apart: give labels in the teacher's units, or train its head on them "
        "with teacher.fine_tune=true."
    ]
