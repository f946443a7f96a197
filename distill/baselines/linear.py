"""Linear models on features, sparse or dense, fitted by scikit-learn and kept as plain arrays."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    Features: TypeAlias = csr_matrix | Floats
Vector = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Distinct indices of the features that are not 0, and their values."""
Kind = Literal["categorical", "bernoulli", "gaussian"]
"""One of C classes, C independent decisions, or one number."""

# Inverse strengths of the L2 penalty that are tried, as scikit-learn's C.
STRENGTHS = (0.1, 1.0, 10.0, 100.0)
# A bound of the time, not of the quality: what is reached after it no longer changes decisions.
MAX_ITERATIONS = 300
LIBRARY_NAMES: dict[Kind, str] = {
    "categorical": "logistic regression",
    "bernoulli": "logistic regression for each label",
    "gaussian": "ridge regression",
}


@dataclass(frozen=True)
class Linear:
    """A linear model.

    Attributes:
        weights: ``(F, C)`` in fp32.
        intercept: ``(C,)`` in fp32.
    """

    weights: Floats
    intercept: Floats

    @property
    def parameters(self) -> int:
        """Number of parameters that are not 0."""
        return int(np.count_nonzero(self.weights) + np.count_nonzero(self.intercept))

    def scores(self, vector: Vector) -> Floats:
        """Return the logits of one example, ``(C,)``."""
        indices, values = vector
        scores: Floats = values.astype(np.float32) @ self.weights[indices] + self.intercept
        return scores


def as_matrix(vectors: Sequence[Vector], features: int) -> csr_matrix:
    """Return examples as the rows of a sparse matrix ``(N, F)``."""
    from scipy.sparse import csr_matrix

    counts = [len(indices) for indices, _ in vectors]
    indices = [indices for indices, _ in vectors] or [np.empty(0, np.int64)]
    values = [values for _, values in vectors] or [np.empty(0)]
    pointers = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    parts = np.concatenate(values), np.concatenate(indices), pointers
    return csr_matrix(parts, shape=(len(vectors), features))


def fit_best(
    kind: Kind,
    train: Features,
    labels: np.ndarray,
    outputs: int,
    score: Callable[[Linear], float],
    strengths: Sequence[float] = STRENGTHS,
) -> tuple[Linear, float]:
    """Fit with each strength and return the best on validation, with its strength.

    Of several that score the same the most strongly regularized is taken.

    Args:
        kind: what the labels are.
        train: features ``(N, F)``.
        labels: class ids ``(N,)``, decisions ``(N, C)`` or numbers ``(N,)``.
        outputs: number of outputs C.
        score: metric on validation, larger is better; NaN counts as the worst.
        strengths: inverse strengths of the penalty, in rising order.
    """
    found: list[tuple[float, Linear, float]] = []
    for strength in strengths:
        model = fit(kind, train, labels, outputs, strength)
        value = score(model)
        found.append((-np.inf if np.isnan(value) else value, model, strength))
    _, best, strength = max(found, key=lambda one: one[0])  # the first of equal ones
    return best, strength


def fit(kind: Kind, train: Features, labels: np.ndarray, outputs: int, strength: float) -> Linear:
    """Fit one linear model with an L2 penalty of ``1 / strength``.

    A class without training examples, or a decision that never varies, has no weights, and the
    intercept of its frequency smoothed by one example.
    """
    weights = np.zeros((train.shape[1], outputs), dtype=np.float32)
    intercept = np.zeros(outputs, dtype=np.float32)
    with _without_convergence_warnings():
        if kind == "gaussian":
            weights[:, 0], intercept[0] = _fit_ridge(train, labels, strength)
        elif kind == "categorical":
            present = np.unique(labels)
            missing = np.setdiff1d(np.arange(outputs), present)
            intercept[missing] = -np.log(len(labels) + 1)
            if len(present) == 2:
                weights[:, present[1]], intercept[present[1]] = _fit_binary(train, labels, strength)
            elif len(present) > 2:
                model = _logistic_regression(strength).fit(train, labels)
                weights[:, present], intercept[present] = model.coef_.T, model.intercept_
        else:
            for output in range(outputs):
                column = labels[:, output]
                positive = int(column.sum())
                if 0 < positive < len(column):
                    fitted = _fit_binary(train, column, strength)
                    weights[:, output], intercept[output] = fitted
                else:
                    odds = (positive + 1) / (len(column) - positive + 1)
                    intercept[output] = np.log(odds)
    return Linear(weights, intercept)


def _fit_binary(train: Features, labels: np.ndarray, strength: float) -> tuple[Floats, float]:
    model = _logistic_regression(strength).fit(train, labels)
    return model.coef_[0], float(model.intercept_[0])


def _logistic_regression(strength: float):  # type: ignore[no-untyped-def]  # noqa: ANN202
    from sklearn.linear_model import LogisticRegression  # slow to import

    return LogisticRegression(C=strength, max_iter=MAX_ITERATIONS)


def _fit_ridge(train: Features, labels: np.ndarray, strength: float) -> tuple[Floats, float]:
    from sklearn.linear_model import Ridge  # slow to import

    model = Ridge(alpha=1 / strength, solver="sparse_cg", max_iter=MAX_ITERATIONS)
    model.fit(train, labels)
    return model.coef_, float(model.intercept_)


@contextmanager
def _without_convergence_warnings() -> Iterator[None]:
    from sklearn.exceptions import ConvergenceWarning  # slow to import

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield
