"""The trials of a search: drawn by Optuna, run one after another, kept in a journal."""

import logging
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import optuna
from optuna.samplers import RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState

from distill.config.error_messages import user_message
from distill.config.naming import job_dir
from distill.core.errors import UserError
from distill.reporting.schema import FILE_NAME, Role, load_report
from distill.search.report import cost
from distill.search.space import Compose, Space, combinations, suggest

if TYPE_CHECKING:
    from pytorch_lightning.callbacks import Callback

log = logging.getLogger(__name__)

JOURNAL = "study.journal"
STOPPED, FAILED = "stopped.txt", "error.txt"
STATES = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "stopped early",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "not finished",
}
# Draws in a row that were all tried before, after which the space counts as exhausted.
REDRAWS = 100
# Failures in a row, from the first trial on, after which the search gives up.
ALL_FAILED = 3
# Tokens at which students' multiply-accumulates are compared before they have been measured.
LENGTH = 16


@dataclass(kw_only=True)
class SearchConfig:
    """What a search is after, and for how long.

    Attributes:
        space: options and their values, see :mod:`distill.search.space`.
        minimize: the costs that are traded against the task's metric on validation.
        trials: runs in all, over all calls; ``None``: no limit.
        minutes: after so many, over all calls, no further run is started; ``None``: no limit.
        random_trials: runs drawn at random before the sampler goes by what it has seen.
        stop_behind: how far behind a trial must be to be stopped early; ``None`` stops none.
        control: in the end, train the control of the runs on the front.
    """

    space: dict[str, Any]
    minimize: list[Literal["parameters", "bytes", "latency_ms", "multiply_accumulates"]]
    trials: int | None = 20
    minutes: float | None = None
    random_trials: int = 8
    stop_behind: float | None = 0.05
    control: bool = False

    def __post_init__(self):
        if self.trials is None and self.minutes is None:
            raise UserError("search.trials and search.minutes are both null: set one of them")
        for name in ("trials", "minutes", "random_trials"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"search.{name}={value}: it must be above 0")
        if self.stop_behind is not None and self.stop_behind < 0:
            raise UserError(f"search.stop_behind={self.stop_behind}: 0 or above, or null")
        if not self.minimize or len(set(self.minimize)) < len(self.minimize):
            raise UserError(f"search.minimize={self.minimize}: name one cost or several, each once")


@dataclass(frozen=True)
class Trial:
    """One run of a search.

    Attributes:
        number: in the order in which they were drawn, from 0.
        folder: the run's, below the search's.
        overrides: what was drawn for it.
        state: one of ``STATES``.
        quality: the best value of the task's metric on validation; ``None`` unless finished.
        costs: what is minimised, by name; empty unless finished.
        curve: (share of the training that is done, metric on validation), one pair an epoch.
        known: costs that can be told before training, by name.
        seconds: wall time in all calls.
    """

    number: int
    folder: str
    overrides: list[str]
    state: str
    quality: float | None = None
    costs: dict[str, float] = field(default_factory=dict)
    curve: list[tuple[float, float]] = field(default_factory=list)
    known: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    def best_by(self, share: float) -> float:
        """The best value up to some share of the training; -inf if there is none yet."""
        reached = (value for done, value in self.curve if done <= share + 1e-9)
        return max(reached, default=float("-inf"))


def is_behind(
    curve: Sequence[tuple[float, float]],
    known: Mapping[str, float],
    finished: Sequence[Trial],
    margin: float,
) -> Trial | None:
    """The rule by which a hopeless trial is stopped.

    A trial is hopeless when a finished one, no greater in any of the costs, was better by more
    than ``margin`` at the same share of its own training; each counts with its best so far.

    Args:
        curve: of the trial, as in ``Trial``.
        known: its costs that can be told before training.
        finished: the trials to compare with.
        margin: in units of the metric.

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


class StopTrial(Exception):
    """Ends the training of a trial that is not worth finishing."""


class Study:
    """A search's trials, in its folder.

    Args:
        folder: exists; the journal in it is continued.
        settings: of the search.
        space: what is searched.
        compose: overrides -> the config of a run.
        seed: of the sampler.
    """

    def __init__(
        self, folder: Path, settings: SearchConfig, space: Space, compose: Compose, seed: int
    ):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder, self.settings, self.space = folder, settings, space
        self._compose, self._seed = compose, seed
        journal = str(folder / JOURNAL)
        self._study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(journal, JournalFileOpenLock(journal))),
            study_name="search",
            directions=["maximize"] + ["minimize"] * len(settings.minimize),
            load_if_exists=True,
        )

    @property
    def trials(self) -> list[Trial]:
        """All runs so far."""
        return [self._read(trial) for trial in self._runs()]

    @property
    def front(self) -> list[Trial]:
        """The finished trials that no other one dominates, the cheapest first."""
        best = [self._read(trial) for trial in self._study.best_trials if _is_run(trial)]
        return sorted(best, key=lambda trial: (list(trial.costs.values()), trial.number))

    def used_up(self) -> str | None:
        """What of the budget is used up; an interrupted trial is finished first in any case."""
        trials = self.trials
        if any(trial.state == STATES[TrialState.RUNNING] for trial in trials):
            return None
        if len(trials) >= ALL_FAILED and all(t.state == STATES[TrialState.FAIL] for t in trials):
            raise UserError(
                f"all of the first {len(trials)} trials failed, see error.txt in "
                f"{self.folder / trials[-1].folder}; start again with another output_dir"
            )
        minutes = sum(trial.seconds for trial in trials) / 60
        if self.settings.trials is not None and len(trials) >= self.settings.trials:
            return f"{len(trials)} of {self.settings.trials} trials"
        if self.settings.minutes is not None and minutes >= self.settings.minutes:
            return f"{minutes:.1f} of {self.settings.minutes:g} minutes"
        if len(trials) >= combinations(self.space):
            return "every combination there is was tried"
        return None

    def next(self) -> optuna.Trial | None:
        """The trial that was interrupted, or a new one; ``None`` if only old ones are drawn.

        What is drawn depends on the seed and the trials before, not on interruptions.
        """
        for trial in self._study.get_trials(states=[TrialState.RUNNING]):
            if _is_run(trial):
                return optuna.Trial(self._study, trial._trial_id)
            self._study.tell(trial.number, state=TrialState.FAIL)  # stopped while it was drawn
        runs = self._runs()
        for redraw in range(REDRAWS):
            seed = int(np.random.SeedSequence([self._seed, len(runs), redraw]).generate_state(1)[0])
            self._study.sampler = (
                RandomSampler(seed)
                if redraw
                else TPESampler(n_startup_trials=self.settings.random_trials, seed=seed)
            )
            trial = self._study.ask()
            overrides = suggest(trial, self.space, self._compose)
            same = next((run for run in runs if run.user_attrs["overrides"] == overrides), None)
            if same is None:
                trial.set_user_attr("overrides", overrides)
                trial.set_user_attr("folder", job_dir(len(runs), overrides))
                return trial
            self._study.tell(trial, same.values, same.state)
        return None

    def run(self, trial: optuna.Trial) -> Trial:
        """Run a trial to its end; an interrupted one goes on where it was.

        What goes wrong is written into the run's folder: the search goes on.
        """
        folder = self.folder / trial.user_attrs["folder"]
        spent, clock = trial.user_attrs.get("seconds", 0.0), time.monotonic()
        values, state = None, TrialState.FAIL
        try:
            if not (folder / FILE_NAME).is_file():
                self._train(folder, trial.user_attrs["overrides"], [self._callback(trial)])
            values, state = self._values(folder), TrialState.COMPLETE
        except StopTrial as reason:
            state = TrialState.PRUNED
            (folder / STOPPED).write_text(f"{reason}\n", encoding="utf-8")
        except Exception as error:
            folder.mkdir(exist_ok=True)
            message = user_message(error) or f"{error!r}\n\n{traceback.format_exc()}"
            (folder / FAILED).write_text(f"{message}\n", encoding="utf-8")
        finally:  # also when interrupted
            trial.set_user_attr("seconds", spent + time.monotonic() - clock)
        return self._read(self._study.tell(trial, values, state))

    def train_controls(self) -> int:
        """Train the controls that runs on the front lack, report anew; returns how many."""
        missing = [
            trial
            for trial in self.front
            if load_report(self.folder / trial.folder).control is None
        ]
        for trial in missing:
            log.info("the control of %s", trial.folder)
            self._train(self.folder / trial.folder, [*trial.overrides, "control=true"])
        return len(missing)

    def _train(self, folder: Path, overrides: list[str], callbacks: Sequence = ()) -> None:
        from distill.config.validation import validate_config
        from distill.pipeline.run import run

        config = self._compose(*overrides).copy()
        config.output_dir = str(folder)
        validate_config(config)
        run(config, callbacks)

    def _callback(self, trial: optuna.Trial) -> "Callback":
        """Notes a trial's costs and curve, and stops it when it is hopeless."""
        from pytorch_lightning.callbacks import LambdaCallback

        from distill.modeling.size import count_bytes, count_parameters, multiply_accumulates

        def start(trainer, module) -> None:
            known = {
                "parameters": count_parameters(module.student).total,
                "bytes": count_bytes(module.student),
                "multiply_accumulates": multiply_accumulates(module.student, LENGTH),
            }
            # A latency is known only once it has been measured: work stands in for it.
            names = (name if name in known else "multiply_accumulates" for name in self._costs)
            trial.set_user_attr("known", {name: known[name] for name in names})

        def epoch_end(trainer, module) -> None:
            value = trainer.callback_metrics.get(f"validation/{module.task.metric}")
            if value is None:
                return
            share = (trainer.current_epoch + 1) / trainer.max_epochs
            # An interrupted epoch is repeated.
            curve = [pair for pair in trial.user_attrs.get("curve", []) if pair[0] < share]
            curve.append((share, float(value)))
            trial.set_user_attr("curve", curve)
            if share < 1 and self.settings.stop_behind is not None:
                finished = [t for t in self.trials if t.quality is not None]
                known = trial.user_attrs["known"]
                rival = is_behind(curve, known, finished, self.settings.stop_behind)
                if rival is not None:
                    raise StopTrial(
                        f"{module.task.metric} {max(v for _, v in curve):.4f} after epoch "
                        f"{trainer.current_epoch + 1} of {trainer.max_epochs}, where {rival.folder}"
                        f" had {rival.best_by(share):.4f} at no greater cost"
                    )

        return LambdaCallback(on_fit_start=start, on_train_epoch_end=epoch_end)

    @property
    def _costs(self) -> list[str]:
        return self.settings.minimize

    def _values(self, folder: Path) -> list[float]:
        """What Optuna optimises of a finished run: validation metric, then the costs."""
        report = load_report(folder)
        student, training = report.student, report.training.get(Role.STUDENT)
        if student is None or training is None or training.best is None:
            raise ValueError("the student has no value of the metric on validation")
        return [training.best, *(cost(student, name) for name in self._costs)]

    def _runs(self) -> list[optuna.trial.FrozenTrial]:
        return [trial for trial in self._study.get_trials(deepcopy=False) if _is_run(trial)]

    def _read(self, trial: optuna.trial.FrozenTrial) -> Trial:
        attributes = trial.user_attrs
        values = trial.values if trial.state == TrialState.COMPLETE else None
        return Trial(
            number=int(attributes["folder"].split("-")[0]),
            folder=attributes["folder"],
            overrides=attributes["overrides"],
            state=STATES[trial.state],
            quality=values[0] if values else None,
            costs=dict(zip(self._costs, values[1:], strict=True)) if values else {},
            curve=[tuple(pair) for pair in attributes.get("curve", [])],
            known=attributes.get("known", {}),
            seconds=attributes.get("seconds", 0.0),
        )


def _is_run(trial: optuna.trial.FrozenTrial) -> bool:
    """Whether it has a folder: draws that repeat an earlier trial have none."""
    return "folder" in trial.user_attrs
