"""One run of a search, and the rule by which it is stopped early."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from distill.reporting.quantities import quantity
from distill.reporting.schema import ModelReport

# (share of the training that is done, metric on validation), one pair per epoch.
Curve = Sequence[tuple[float, float]]


class StopTrial(Exception):
    """Ends the training of a trial that is not worth finishing."""


@dataclass(frozen=True)
class Trial:
    """One run of a search.

    Attributes:
        number: Number in the order in which trials were drawn, from 0.
        folder: Name of the run's folder below the search's.
        overrides: The overrides that were drawn for it.
        state: One of ``distill.search.study.STATES``.
        quality: Best value of the task's metric on validation; ``None`` unless finished.
        costs: The minimized costs by name; empty unless finished.
        curve: Metric on validation over the training.
        known: Costs that are known before training, by name.
        seconds: Wall time over all calls.
    """

    number: int
    folder: str
    overrides: list[str]
    state: str
    quality: float | None = None
    costs: dict[str, float] = field(default_factory=dict)
    curve: Curve = ()
    known: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    def best_by(self, share: float) -> float:
        """Return the best value up to a share of the training; -inf if there is none yet."""
        reached = (value for done, value in self.curve if done <= share + 1e-9)
        return max(reached, default=float("-inf"))


def is_behind(
    curve: Curve, known: Mapping[str, float], finished: Sequence[Trial], margin: float
) -> Trial | None:
    """Return the finished trial that makes a running one hopeless.

    A trial is hopeless when a finished one, no greater in any of the costs, was better by more
    than ``margin`` at the same share of its own training; each counts with its best so far.

    Args:
        curve: Of the running trial; not empty.
        known: Its costs that are known before training.
        finished: The trials to compare with.
        margin: In units of the metric.

    Returns:
        The trial that is furthest ahead, or ``None`` if none is far enough.
    """
    share = curve[-1][0]
    best = max(value for _, value in curve)
    rivals = [
        trial
        for trial in finished
        if all(trial.known[name] <= cost for name, cost in known.items())
        and trial.best_by(share) - best > margin
    ]
    return max(rivals, key=lambda trial: trial.best_by(share), default=None)


def cost(model: ModelReport, name: str) -> float:
    """Return one of the costs that a search can minimize.

    Raises:
        ValueError: It was not measured.
    """
    value = quantity(name).read(model)
    if value is None:
        raise ValueError(f"{name} of {model.role} was not measured")
    return value
