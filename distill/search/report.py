"""A search's own report: its front, chosen on validation, and its history."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.metrics.statistics import holm
from distill.reporting.comparison_summary import of_one_seed
from distill.reporting.conclusion import shows_teaching
from distill.reporting.event_file import EventFile
from distill.reporting.files import write_text
from distill.reporting.front import hypervolume
from distill.reporting.quantities import quantity
from distill.reporting.schema import (
    FILE_NAME,
    Difference,
    MetricValue,
    Report,
    load_report,
)
from distill.reporting.text import (
    ABSENT,
    duration,
    markdown_table,
    p_equals,
    plain_table,
    score,
    short,
    significant,
    with_interval,
)
from distill.search.study import Study
from distill.search.trial import Trial, cost

HISTORY = ".search"  # suffix of the event file with the history
SELECTION_NOTE = (
    "Members of the front were chosen by their results on validation. The test split took no part "
    "in the choice, so a member's test result is an honest estimate; the best of all runs by its "
    "test result would look better than it is."
)


@dataclass(frozen=True)
class FinalResult:
    """What a finished trial's student reaches on the test split."""

    quality: MetricValue
    gain_over_control: Difference | None


@dataclass(frozen=True)
class TrialSummary:
    """One trial in the report.

    Attributes:
        number: In the order in which the trials were drawn, from 0.
        folder: The run's folder, below the search's.
        overrides: The options drawn for it.
        state: How it ended.
        quality: Best value of the task's metric on validation; None unless finished.
        costs: The minimized costs by name; empty unless finished.
        seconds: Wall time.
        on_front: Whether no finished trial dominates it.
        hypervolume: Of this and all earlier trials, on validation.
        test: None unless finished.
    """

    number: int
    folder: str
    overrides: list[str]
    state: str
    quality: float | None
    costs: Mapping[str, float]
    seconds: float
    on_front: bool
    hypervolume: float | None
    test: FinalResult | None


@dataclass(frozen=True)
class SearchSummary:
    """Everything that the report says, and search.json holds.

    Attributes:
        command: The command that continues the search.
        metric: The task's main metric; None while no trial has finished.
        minimize: Names of the minimized costs.
        space: The searched options and their values, in words.
        seconds: Wall time of all trials.
        front: Numbers of the trials on the front.
        trials: All trials.
    """

    command: str
    metric: str | None
    minimize: Sequence[str]
    space: Mapping[str, str]
    seconds: float
    front: list[int]
    trials: list[TrialSummary]

    def to_dict(self) -> dict[str, Any]:
        """Return the content of search.json."""
        trials = []
        for trial in self.trials:
            test = trial.test and {
                "quality": trial.test.quality.to_dict(),
                "gain_over_control": trial.test.gain_over_control
                and trial.test.gain_over_control.to_dict(),
            }
            trials.append({**vars(trial), "test": test})
        return {**vars(self), "trials": trials}


def summarize_search(study: Study, space: Mapping[str, str], command: str) -> SearchSummary:
    """Summarize a search.

    Args:
        study: The trials and their folders.
        space: The searched options and their values, in words.
        command: The command that continues the search.
    """
    trials, minimize = study.trials, study.settings.minimize
    reports = {
        trial.number: load_report(study.folder / trial.folder)
        for trial in trials
        if trial.quality is not None and (study.folder / trial.folder / FILE_NAME).is_file()
    }
    first = next(iter(reports.values()), None)
    reference = cost(first.models[0], minimize[0]) if first else None
    metric = first.main_metric if first else None
    front = [trial.number for trial in study.front]
    summaries = []
    for trial in trials:
        so_far = [
            (earlier.costs[minimize[0]], earlier.quality)
            for earlier in trials[: trial.number + 1]
            if earlier.quality is not None
        ]
        summaries.append(
            TrialSummary(
                number=trial.number,
                folder=trial.folder,
                overrides=trial.overrides,
                state=trial.state,
                quality=trial.quality,
                costs=trial.costs,
                seconds=trial.seconds,
                on_front=trial.number in front,
                hypervolume=hypervolume(so_far, (reference, 0.0), 1.0) if reference else None,
                test=_final_result(reports.get(trial.number), metric),
            )
        )
    return SearchSummary(
        command=command,
        metric=metric,
        minimize=minimize,
        space=dict(space),
        seconds=sum(trial.seconds for trial in trials),
        front=front,
        trials=summaries,
    )


def write(folder: Path, summary: SearchSummary) -> None:
    """Write search.json and search.md."""
    write_text(folder / "search.json", json.dumps(summary.to_dict(), indent=2) + "\n")
    write_text(folder / "search.md", markdown(folder.name, summary))


def markdown(name: str, summary: SearchSummary) -> str:
    """Return search.md: the front, the searched space, every trial."""
    lines = [f"# {name}", "", _count(summary), "", "To continue, with a larger budget:", ""]
    lines += [f"    {summary.command}", ""]
    if summary.front:
        lines += ["## Front", "", _objectives(summary), ""]
        lines += [*markdown_table(*_front_table(summary)), "", SELECTION_NOTE, ""]
        if note := _gains_note(summary):
            lines += [note, ""]
    space = markdown_table(("option", "values"), list(summary.space.items()), left=2)
    lines += ["## Space", "", *space]
    head = ("run", "state", *_measure_heads(summary), "time", "hypervolume")
    rows = [
        (
            f"{trial.folder}{' *' if trial.on_front else ''}",
            trial.state,
            *_measures(trial, summary),
            duration(trial.seconds),
            significant(trial.hypervolume, 4),
        )
        for trial in summary.trials
    ]
    lines += ["", "## History", "", *markdown_table(head, rows, left=2), ""]
    lines += [
        "\\* on the front. Hypervolume: the share of the box between the teacher's "
        f"{quantity(summary.minimize[0]).label} at a metric of 0 and the ideal that all trials so "
        "far dominate on validation.",
        "",
    ]
    return "\n".join(lines)


def terminal(summary: SearchSummary) -> str:
    """Return the short form."""
    if not summary.front:
        return _count(summary)
    lines = [_count(summary), "", _objectives(summary), *plain_table(*_front_table(summary))]
    if note := _gains_note(summary):
        lines += ["", note]
    return "\n".join(lines)


def line(trial: Trial, folder: Path) -> str:
    """Describe one trial, for the log."""
    if trial.quality is not None:
        costs = ", ".join(
            f"{f'{short(value)} {quantity(name).unit}'.rstrip()} {quantity(name).label}"
            for name, value in trial.costs.items()
        )
        return f"finished, {trial.quality:.4f} on validation, {costs}, {duration(trial.seconds)}"
    file = folder / trial.folder / {"failed": "error.txt"}.get(trial.state, "stopped.txt")
    return f"{trial.state}: {file.read_text(encoding='utf-8').splitlines()[0]}"


def write_history(directory: Path, summary: SearchSummary) -> None:
    """Rewrite the search's own TensorBoard run: its trials as steps, and the report as text."""
    with EventFile(directory, suffix=HISTORY) as events:
        for trial in summary.trials:
            values = {
                "hypervolume": trial.hypervolume,
                "seconds": trial.seconds,
                "validation": trial.quality,
                **trial.costs,
            }
            for name, value in values.items():
                if value is not None:
                    events.add_scalar(f"search/{name}", value, trial.number)
        events.add_text("search", markdown(directory.name, summary))


def _count(summary: SearchSummary) -> str:
    states = [trial.state for trial in summary.trials]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    trials = "1 trial" if len(states) == 1 else f"{len(states)} trials"
    return f"{trials} in {duration(summary.seconds)}: {counts}."


def _objectives(summary: SearchSummary) -> str:
    costs = " and ".join(quantity(name).label for name in summary.minimize)
    return f"The front: {quantity(summary.metric).label} on validation up, {costs} down."


def _measure_heads(summary: SearchSummary) -> list[str]:
    return ["validation", *(quantity(name).axis_label for name in summary.minimize)]


def _measures(trial: TrialSummary, summary: SearchSummary) -> list[str]:
    return [score(trial.quality), *(short(trial.costs.get(name)) for name in summary.minimize)]


def _front_table(summary: SearchSummary) -> tuple[Sequence[str], list[Sequence[str]]]:
    metric = quantity(summary.metric)
    head = ["run", *_measure_heads(summary), f"{metric.label} on test"]
    rows: list[Sequence[str]] = []
    for member in (summary.trials[number] for number in summary.front):
        quality = member.test.quality if member.test else MetricValue()
        interval = with_interval(quality.value, quality.low, quality.high)
        rows.append([member.folder, *_measures(member, summary), interval])
    gains = _gains(summary)
    if gains:
        unit = metric.difference_unit
        head.append(f"gain over control{',' if unit else ''}{unit}")
        corrected = holm([1.0 if gain.p_value is None else gain.p_value for gain in gains.values()])
        texts = {
            row: f"{metric.difference(gain.value, gain.low, gain.high)}, {p_equals(p)}"
            for (row, gain), p in zip(gains.items(), corrected, strict=True)
        }
        rows = [[*row, texts.get(index, ABSENT)] for index, row in enumerate(rows)]
    return head, rows


def _gains(summary: SearchSummary) -> dict[int, Difference]:
    """Return the gains over the control by their place on the front."""
    tests = [summary.trials[number].test for number in summary.front]
    return {
        place: test.gain_over_control
        for place, test in enumerate(tests)
        if test and test.gain_over_control
    }


def _gains_note(summary: SearchSummary) -> str:
    """Say what the gains over the control are, and what those of one seed do not show."""
    gains = _gains(summary).values()
    if not gains:
        return ""
    note = (
        "Gain over control: the student minus the same student trained without the teacher, with a"
        f" paired test, Holm-corrected over {len(gains)} comparison{'s' if len(gains) > 1 else ''}."
    )
    return f"{note} {of_one_seed(sum(not shows_teaching(gain) for gain in gains))}".rstrip()


def _final_result(report: Report | None, metric: str | None) -> FinalResult | None:
    if report is None or report.student is None:
        return None
    gain = report.comparison.gain_over_control if report.comparison else None
    return FinalResult(report.student.metric(metric), gain)
