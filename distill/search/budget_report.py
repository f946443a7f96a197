"""The report of a search with a budget: front on validation, choice, reason, test result."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.reporting.conclusion import conclude
from distill.reporting.files import replacing, write_text
from distill.reporting.quantities import quantity
from distill.reporting.schema import load_report
from distill.reporting.text import (
    ABSENT,
    duration,
    markdown_table,
    percent,
    plain_table,
    score,
    short,
    significant,
)
from distill.search.halving import front

if TYPE_CHECKING:
    from distill.search.budget import BudgetConfig
    from distill.search.candidates import Candidate, Candidates

SELECTION_NOTE = (
    "Candidates were compared on validation alone: only the chosen student was evaluated on the "
    "test split. Candidates that had fewer epochs may have become better with more."
)


@dataclass(frozen=True)
class Line:
    """One candidate in the report; ``share`` is its metric on validation over the teacher's."""

    name: str
    overrides: Sequence[str]
    state: str
    speedup: float | None
    latency_ms: float | None
    parameters: int | None
    validation: float | None
    share: float | None
    epochs: int
    max_epochs: int
    seconds: float
    on_front: bool


@dataclass(frozen=True)
class BudgetReport:
    """Everything that the report says, and search.json holds.

    Attributes:
        question: What was asked for.
        metric: The task's metric.
        teacher: Its value for the teacher on validation.
        chosen: Name of the chosen candidate.
        reached: Whether it keeps as much of the teacher's metric as was asked for.
        reason: Why it was chosen.
        ended: Why the search ended.
        seconds: Wall time over all calls.
        repeat: The command that trains the chosen student alone.
        command: The command of the search.
        conclusion: What its report on the test split concludes.
        candidates: All candidates, the fastest first.
    """

    question: str
    metric: str
    teacher: float
    chosen: str
    reached: bool
    reason: str
    ended: str
    seconds: float
    repeat: str
    command: str
    conclusion: str
    candidates: list[Line]


def summarize(
    candidates: Candidates,
    settings: BudgetConfig,
    chosen: Candidate,
    ended: str,
    fixed: Sequence[str],
    command: str,
) -> BudgetReport:
    """Summarize a search.

    Args:
        candidates: All of them.
        settings: The goals.
        chosen: The candidate that was run to its end.
        ended: Why the search ended.
        fixed: Overrides of every run.
        command: The command of the search.
    """
    direction, teacher = candidates.higher_is_better, candidates.teacher_quality
    assert teacher is not None
    members = {one.name for one in front([c.standing(direction) for c in candidates.trained])}

    def share(value: float | None) -> float | None:
        if value is None or not teacher or not value:
            return None
        return value / teacher if direction else teacher / value

    lines = [
        Line(
            name=one.name,
            overrides=one.overrides,
            state="chosen" if one is chosen else _state(one),
            speedup=one.speedup,
            latency_ms=one.latency_ms,
            parameters=one.parameters,
            validation=one.best(direction),
            share=share(one.best(direction)),
            epochs=len(one.curve),
            max_epochs=one.max_epochs,
            seconds=one.seconds,
            on_front=one.name in members,
        )
        for one in sorted(candidates.all, key=lambda one: -(one.speedup or 0))
    ]
    best = next(line for line in lines if line.name == chosen.name)
    reached = settings.at_least is None or (best.share or 0) >= settings.at_least
    return BudgetReport(
        question=settings.describe(),
        metric=candidates.metric,
        teacher=teacher,
        chosen=chosen.name,
        reached=reached,
        reason=_reason(best, lines, settings, reached, quantity(candidates.metric).label),
        ended=ended,
        seconds=candidates.seconds,
        repeat=shlex.join(["distill", *fixed, *chosen.overrides]),
        command=command,
        conclusion=conclude(load_report(candidates.folder / chosen.name)),
        candidates=lines,
    )


def write(folder: Path, report: BudgetReport) -> None:
    """Write search.json, search.md and front.png."""
    write_text(folder / "search.json", json.dumps(asdict(report), indent=2) + "\n")
    write_text(folder / "search.md", markdown(folder.name, report))
    _figure(folder / "front.png", report)


def markdown(name: str, report: BudgetReport) -> str:
    """Return search.md."""
    lines = [
        *(f"# {name}", "", f"Asked for: {report.question}.", ""),
        *("## Choice", "", f"**{report.chosen}**: {report.reason}", ""),
        *(f"On the test split: {report.conclusion}", ""),
        *(f"Its report: [{report.chosen}/report.md]({report.chosen}/report.md). To repeat it:", ""),
        *(f"    {report.repeat}", ""),
        *("## Candidates", "", "![front](front.png)", ""),
        *markdown_table(*_table(report), left=2),
        *("", f"\\* on the front of speed and {quantity(report.metric).label} on validation.", ""),
        *(SELECTION_NOTE, "", f"{_ending(report)} The search's command:", ""),
        *(f"    {report.command}", ""),
    ]
    return "\n".join(lines)


def terminal(report: BudgetReport) -> str:
    """Return the short form."""
    return "\n".join(
        [
            *("", f"asked for: {report.question}", "", *plain_table(*_table(report), left=2), ""),
            *(f"chosen: {report.chosen}: {report.reason}", f"on test: {report.conclusion}"),
            *(f"repeat: {report.repeat}", _ending(report)),
        ]
    )


def _ending(report: BudgetReport) -> str:
    return f"The search took {duration(report.seconds)}: {report.ended}."


def _state(candidate: Candidate) -> str:
    if candidate.left_out is not None:
        return f"left out: {candidate.left_out}"
    return {"stopped": "behind", "waiting": "not finished"}.get(candidate.state, candidate.state)


def _reason(
    best: Line, lines: Sequence[Line], settings: BudgetConfig, reached: bool, metric: str
) -> str:
    kept = f"{percent(best.share)} of the teacher's {metric} on validation"
    fast = f"{significant(best.speedup, 2)} times less processor time"
    if not reached:
        return (
            f"no candidate keeps {percent(settings.at_least)} of the teacher's {metric}; the "
            f"nearest keeps {percent(best.share)} with {fast}. More unlabeled text may help."
        )
    others = [line for line in lines if line is not best and line.validation is not None]
    if settings.at_least is not None:
        faster = [line for line in others if (line.speedup or 0) > (best.speedup or 0)]
        text = f"the fastest that keeps enough: {kept}, {fast}"
        if faster:
            nearest = max(faster, key=lambda line: line.share or 0)
            text += f"; {nearest.name} is faster and keeps {percent(nearest.share)}"
        return f"{text}."
    text = f"the best within the limits: {kept}, {fast}"
    if others:
        second = max(others, key=lambda line: line.share or 0)
        text += f"; next is {second.name} with {percent(second.share)}"
    return f"{text}."


def _table(report: BudgetReport) -> tuple[Sequence[str], list[Sequence[str]]]:
    label = quantity(report.metric).label
    head = (
        *("candidate", "state", "times faster", "ms", "parameters"),
        *(f"{label} on validation", "of the teacher's", "epochs", "time"),
    )
    rows: list[Sequence[str]] = [
        ("teacher", "", "1", ABSENT, ABSENT, score(report.teacher), "100 %", ABSENT, ABSENT)
    ]
    for line in report.candidates:
        rows.append(
            (
                f"{line.name}{' *' if line.on_front else ''}",
                line.state,
                significant(line.speedup, 2) if line.speedup else ABSENT,
                short(line.latency_ms),
                short(line.parameters),
                score(line.validation),
                percent(line.share) if line.share else ABSENT,
                f"{line.epochs} of {line.max_epochs}" if line.epochs else ABSENT,
                duration(line.seconds) if line.seconds else ABSENT,
            )
        )
    return head, rows


def _figure(path: Path, report: BudgetReport) -> None:
    """Draw the metric on validation over the speed-up; the chosen candidate is filled."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes: Any = figure.subplots()
    points = [line for line in report.candidates if line.validation is not None and line.speedup]
    axes.axhline(report.teacher, linestyle="--", linewidth=1, color="0.4")
    axes.annotate(
        "teacher", (1, report.teacher), fontsize=8, color="0.4", xytext=(0, 3),
        textcoords="offset points",
    )  # fmt: skip
    members = [line for line in points if line.on_front]
    axes.plot(
        [line.speedup for line in members], [line.validation for line in members],
        color="tab:blue", linewidth=1, alpha=0.5,
    )  # fmt: skip
    for line in points:
        filled = "tab:blue" if line.name == report.chosen else "white"
        axes.plot(line.speedup, line.validation, "o", color="tab:blue", markerfacecolor=filled)
        axes.annotate(
            line.name, (line.speedup, line.validation), fontsize=8, xytext=(5, 4),
            textcoords="offset points",
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlim(left=0.8)
    axes.set_xlabel("times less processor time than the teacher, one text")
    axes.set_ylabel(f"{quantity(report.metric).label} on validation")
    axes.set_title(f"chosen: {report.chosen}", fontsize=10)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
