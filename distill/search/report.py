"""A search's own report: its front, chosen on validation, and its history."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.metrics.statistics import holm
from distill.reporting.conclusion import latency, main_metric
from distill.reporting.files import write_text
from distill.reporting.front import hypervolume
from distill.reporting.text import (
    ABSENT,
    difference_with_interval,
    duration,
    label,
    label_with_unit,
    markdown_table,
    p_equals,
    plain_table,
    score,
    short,
    significant,
    unit,
    with_interval,
)

if TYPE_CHECKING:
    from distill.search.study import Study, Trial

HISTORY = ".search"  # how the event file of the history ends
HONEST = (
    "Members of the front were chosen by their results on validation. The test split took no part "
    "in the choice, so a member's test result is an honest estimate; the best of all runs by its "
    "test result would look better than it is."
)


def summary(study: Study, space: Mapping[str, str], command: str) -> dict[str, Any]:
    """Everything the report says, and search.json holds.

    Args:
        study: its trials and their folders.
        space: what was searched, in words.
        command: that continues the search.
    """
    trials, costs = study.trials, study.settings.minimize
    reports = {
        trial.number: json.loads((study.folder / trial.folder / "report.json").read_text("utf-8"))
        for trial in trials
        if trial.quality is not None and (study.folder / trial.folder / "report.json").is_file()
    }
    first = next(iter(reports.values()), None)
    reference = cost(first["models"][0], costs[0]) if first else None
    metric = main_metric(first) if first else None
    front = [trial.number for trial in study.front]
    history = []
    for trial in trials:
        so_far = [
            (t.costs[costs[0]], t.quality)
            for t in trials[: trial.number + 1]
            if t.quality is not None
        ]
        history.append(
            {key: value for key, value in asdict(trial).items() if key not in ("curve", "known")}
            | {
                "on_front": trial.number in front,
                "hypervolume": hypervolume(so_far, (reference, 0.0), 1.0) if reference else None,
                "test": _test(reports.get(trial.number), metric),
            }
        )
    return {
        "command": command,
        "metric": metric,
        "minimize": costs,
        "space": dict(space),
        "seconds": sum(trial.seconds for trial in trials),
        "front": front,
        "trials": history,
    }


def write(folder: Path, content: Mapping[str, Any]) -> None:
    """Write search.json and search.md."""
    write_text(folder / "search.json", json.dumps(content, indent=2) + "\n")
    write_text(folder / "search.md", markdown(folder.name, content))


def markdown(name: str, content: Mapping[str, Any]) -> str:
    """The report to read: front, what was searched, every trial."""
    lines = [f"# {name}", "", _count(content), "", "To continue, with a larger budget:", ""]
    lines += [f"    {content['command']}", ""]
    if content["front"]:
        lines += ["## Front", "", _objectives(content), ""]
        lines += [*markdown_table(*_front_table(content)), "", HONEST, ""]
    space = markdown_table(("option", "values"), list(content["space"].items()), left=2)
    lines += ["## Space", "", *space]
    head = ("run", "state", *_measure_heads(content), "time", "hypervolume")
    rows = [
        (
            f"{trial['folder']}{' *' if trial['on_front'] else ''}",
            trial["state"],
            *_measures(trial, content),
            duration(trial["seconds"]),
            significant(trial["hypervolume"], 4),
        )
        for trial in content["trials"]
    ]
    lines += ["", "## History", "", *markdown_table(head, rows, left=2), ""]
    lines += [
        "\\* on the front. Hypervolume: the share of the box between the teacher's "
        f"{label(content['minimize'][0])} at a metric of 0 and the ideal that all trials so far "
        "dominate on validation.",
        "",
    ]
    return "\n".join(lines)


def terminal(content: Mapping[str, Any]) -> str:
    """The short form."""
    if not content["front"]:
        return _count(content)
    return "\n".join(
        [_count(content), "", _objectives(content), *plain_table(*_front_table(content))]
    )


def line(trial: Trial, folder: Path) -> str:
    """One trial, for the log."""
    if trial.quality is not None:
        costs = ", ".join(f"{short(v)}{unit(k)} {label(k)}" for k, v in trial.costs.items())
        return f"finished, {trial.quality:.4f} on validation, {costs}, {duration(trial.seconds)}"
    file = folder / trial.folder / {"failed": "error.txt"}.get(trial.state, "stopped.txt")
    return f"{trial.state}: {file.read_text(encoding='utf-8').splitlines()[0]}"


def write_history(directory: Path, content: Mapping[str, Any]) -> None:
    """Write the search's own TensorBoard run anew: the trials in a row, and the report as text."""
    from torch.utils.tensorboard import SummaryWriter

    for file in directory.glob(f"events.out.tfevents.*{HISTORY}"):
        file.unlink()
    with SummaryWriter(str(directory), filename_suffix=HISTORY) as writer:
        for trial in content["trials"]:
            values = {"hypervolume": trial["hypervolume"], "seconds": trial["seconds"]}
            values |= {"validation": trial["quality"]} | trial["costs"]
            for name, value in values.items():
                if value is not None:
                    writer.add_scalar(f"search/{name}", value, trial["number"])
        writer.add_text("search", markdown(directory.name, content))


def _count(content: Mapping[str, Any]) -> str:
    states = [trial["state"] for trial in content["trials"]]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    trials = "1 trial" if len(states) == 1 else f"{len(states)} trials"
    return f"{trials} in {duration(content['seconds'])}: {counts}."


def _objectives(content: Mapping[str, Any]) -> str:
    costs = " and ".join(label(cost) for cost in content["minimize"])
    return f"The front: {label(content['metric'])} on validation up, {costs} down."


def _measure_heads(content: Mapping[str, Any]) -> list[str]:
    return ["validation", *(label_with_unit(cost) for cost in content["minimize"])]


def _measures(trial: Mapping[str, Any], content: Mapping[str, Any]) -> list[str]:
    return [score(trial["quality"]), *(short(trial["costs"].get(c)) for c in content["minimize"])]


def _front_table(content: Mapping[str, Any]) -> tuple[Sequence[str], list[Sequence[str]]]:
    members = [content["trials"][number] for number in content["front"]]
    head = ["run", *_measure_heads(content), f"{label(content['metric'])} on test"]
    rows, gains = [], {}
    for member in members:
        test = member["test"] or {"quality": {}, "gain_over_control": None}
        interval = with_interval(*(test["quality"].get(key) for key in ("value", "low", "high")))
        rows.append([member["folder"], *_measures(member, content), interval])
        if test["gain_over_control"]:
            gains[len(rows) - 1] = test["gain_over_control"]
    if gains:
        head.append("gain over control, points")
        corrected = holm([gain["p_value"] for gain in gains.values()])
        texts = {
            row: f"{_gain(gain, content['metric'])}, {p_equals(p)}"
            for (row, gain), p in zip(gains.items(), corrected, strict=True)
        }
        rows = [[*row, texts.get(index, ABSENT)] for index, row in enumerate(rows)]
    return head, rows


def _gain(gain: Mapping[str, float], metric: str) -> str:
    return difference_with_interval(gain["value"], gain["low"], gain["high"], metric)


def _test(report: Mapping[str, Any] | None, metric: str | None) -> dict[str, Any] | None:
    if report is None:
        return None
    student = next(model for model in report["models"] if model["role"] == "student")
    return {
        "quality": student["quality"][metric],
        "gain_over_control": report["comparison"]["gain_over_control"],
    }


def cost(model: Mapping[str, Any], name: str) -> float:
    """What a model of a report costs in one of the costs that a search can minimise."""
    return latency(model) if name == "latency_ms" else model["size"][name]
