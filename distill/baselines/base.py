"""The interface of baselines: fitted on labeled examples, they predict in the form of logits.

A task names the baselines that fit it (:class:`~distill.tasks.base.Task`). What they predict has
the form of a model's logits, so that the task's evaluator measures it like any model.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from distill.core.jagged import ArrayOrJagged
from distill.data.dataset import DistillationDataset

MAJORITY, WORDS, PIXELS = "majority", "words", "pixels"
"""Roles in the report, and values of the option ``baselines``."""


@dataclass(frozen=True)
class BaselineData:
    """What a baseline is fitted on.

    Attributes:
        train: labeled training examples; ``source`` has their inputs.
        validation: on which a setting is chosen.
        label_names: names of the outputs.
        outputs: number of outputs C; for language models the size of the vocabulary.
        score: the task's metric of logits of ``validation``, larger is better.
    """

    train: DistillationDataset
    validation: DistillationDataset
    label_names: Sequence[str]
    outputs: int
    score: Callable[[ArrayOrJagged], float]


@dataclass(frozen=True)
class Costs:
    """Size of a fitted baseline.

    Attributes:
        parameters: number of nonzero parameters.
        bytes: of what it has to store: parameters in fp32, and its vocabulary.
        multiply_accumulates: of a median example.
    """

    parameters: int
    bytes: int
    multiply_accumulates: int


class FittedBaseline(ABC):
    """A baseline that predicts.

    Attributes:
        name: what it is, for the report.
        is_probabilistic: whether its logits stand for probabilities, whose calibration and
            divergence can be measured, or for decisions alone.
        reads: what its latency is measured from.
    """

    name: str
    is_probabilistic: bool = True
    reads: ClassVar[str] = "the text"

    @abstractmethod
    def predict(self, examples: DistillationDataset) -> ArrayOrJagged | None:
        """Return logits of every example, ``(N, C)`` or jagged, as the evaluator reads them.

        ``None`` where the baseline says nothing about these examples.
        """

    def predict_row(self, row: Mapping[str, Any]) -> Any:
        """Predict a single row of the source; what the latency is measured of."""
        raise NotImplementedError

    def costs(self, examples: DistillationDataset) -> Costs | None:
        """Return the size; ``None``: there is nothing to store or to compute."""
        return None


class Baseline(ABC):
    """A kind of baseline.

    Attributes:
        role: role in the report and value of the option ``baselines``.
        stored: class of what :meth:`fit` returns if it is worth keeping in the cache.
    """

    role: ClassVar[str]
    stored: "ClassVar[type[StoredBaseline] | None]" = None

    @property
    def settings(self) -> list[str]:
        """Everything that changes what :meth:`fit` returns, for cache keys."""
        return [type(self).__name__]

    @abstractmethod
    def fit(self, data: BaselineData) -> FittedBaseline:
        """Fit to the training examples."""


class StoredBaseline(FittedBaseline):
    """A fitted baseline that is worth keeping: arrays and plain values in a folder."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write into an existing folder."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote."""
