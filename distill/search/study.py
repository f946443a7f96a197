"""The trials of a search: drawn by Optuna, run one after another, kept in a journal."""

import logging
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import optuna
from optuna.samplers import RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import StudyDirection
from optuna.trial import TrialState

from distill.config.error_messages import user_message
from distill.config.naming import job_dir
from distill.core.errors import UserError
from distill.reporting.record import ReportError
from distill.reporting.schema import Role, load_report
from distill.search.record import damaged
from distill.search.space import Compose, Space, combinations, suggest
from distill.search.trial import StopTrial, Trial, cost

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
# Number of consecutive draws of combinations already tried after which the space is exhausted.
REDRAWS = 100
# Number of failures from the first trial on after which the search gives up.
ALL_FAILED = 3


@dataclass(kw_only=True)
class SearchConfig:
    """Space, goals and budget of a search.

    Attributes:
        space: Options and their values, see :mod:`distill.search.space`.
        minimize: The costs that are traded against the task's metric on validation.
        trials: Maximum number of runs over all calls; ``None``: no limit.
        minutes: Wall time over all calls after which no run is started; ``None``: no limit.
        random_trials: Number of runs drawn at random before the sampler uses earlier results.
        stop_behind: How far behind a trial must be to be stopped early; ``None`` stops none.
        control: Whether the control of the runs on the front is trained in the end.
    """

    space: dict[str, Any]
    minimize: list[Literal["parameters", "bytes", "latency_ms", "multiply_accumulates"]]
    trials: int | None = 20
    minutes: float | None = None
    random_trials: int = 8
    stop_behind: float | None = 0.05
    control: bool = False

    def __post_init__(self) -> None:
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


class Study:
    """A search's trials, in its folder.

    Args:
        folder: An existing folder; the journal in it is continued.
        settings: Goals and budget.
        space: The searched options.
        compose: Function from overrides to the config of a run.
        seed: Seed of the sampler.
    """

    def __init__(
        self, folder: Path, settings: SearchConfig, space: Space, compose: Compose, seed: int
    ):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder, self.settings, self.space = folder, settings, space
        self._compose, self._seed = compose, seed
        journal = str(folder / JOURNAL)
        try:
            self._study = optuna.create_study(
                storage=JournalStorage(JournalFileBackend(journal, JournalFileOpenLock(journal))),
                study_name="search",
                directions=[
                    StudyDirection.MAXIMIZE,
                    *[StudyDirection.MINIMIZE] * len(settings.minimize),
                ],
                load_if_exists=True,
            )
        except (ValueError, KeyError, TypeError, AssertionError, IsADirectoryError) as error:
            raise damaged(Path(journal)) from error

    @property
    def trials(self) -> list[Trial]:
        """All trials so far."""
        return [self._read(trial) for trial in self._runs()]

    @property
    def front(self) -> list[Trial]:
        """The finished trials that no other one dominates, the cheapest first."""
        best = [self._read(trial) for trial in self._study.best_trials if _is_run(trial)]
        return sorted(best, key=lambda trial: (list(trial.costs.values()), trial.number))

    def used_up(self) -> str | None:
        """Return which part of the budget is used up, ``None`` if the search goes on.

        An interrupted trial is finished first in any case.

        Raises:
            UserError: If all of the first trials failed.
        """
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
            return "every combination was tried"
        return None

    def next(self) -> optuna.Trial | None:
        """Return the interrupted trial or a new one; ``None`` if only known ones are drawn.

        What is drawn depends on the seed and the trials before, not on interruptions.
        """
        for running in self._study.get_trials(states=[TrialState.RUNNING]):
            if _is_run(running):
                return optuna.Trial(self._study, running._trial_id)
            self._study.tell(
                running.number, state=TrialState.FAIL
            )  # interrupted while it was drawn
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
        """Run a trial to its end; an interrupted one is continued.

        A failure is written into the run's folder, and the search goes on.
        """
        folder = self.folder / trial.user_attrs["folder"]
        spent, clock = trial.user_attrs.get("seconds", 0.0), time.monotonic()
        values, state = None, TrialState.FAIL
        try:
            if not _is_finished(folder):
                self._train(folder, trial.user_attrs["overrides"], [self._monitor(trial)])
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
        """Train the missing controls of runs on the front; return how many were trained."""
        missing = [
            trial for trial in self.front if load_report(self.folder / trial.folder).control is None
        ]
        for trial in missing:
            log.info("the control of %s", trial.folder)
            self._train(self.folder / trial.folder, [*trial.overrides, "control=true"])
        return len(missing)

    def _train(
        self, folder: Path, overrides: list[str], callbacks: "Sequence[Callback]" = ()
    ) -> None:
        from distill.config.validation import validate_config
        from distill.pipeline.run import run

        config = self._compose(*overrides).copy()
        config.output_dir = str(folder)
        validate_config(config)
        run(config, callbacks)

    def _monitor(self, trial: optuna.Trial) -> "Callback":
        from distill.search.monitor import TrialMonitor  # imports torch

        def finished() -> list[Trial]:
            return [trial for trial in self.trials if trial.quality is not None]

        return TrialMonitor(trial, self._costs, self.settings.stop_behind, finished)

    @property
    def _costs(self) -> list[str]:
        return list(self.settings.minimize)

    def _values(self, folder: Path) -> list[float]:
        """Return the objectives of a finished run: metric on validation, then the costs."""
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


def _is_finished(folder: Path) -> bool:
    """Return whether a run has a report that is whole."""
    try:
        load_report(folder)
    except ReportError:
        return False
    return True


def _is_run(trial: optuna.trial.FrozenTrial) -> bool:
    """Return whether a trial has a folder: draws that repeat an earlier one have none."""
    return "folder" in trial.user_attrs
