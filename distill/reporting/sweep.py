"""The report of a sweep: comparison and front of all runs in a folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from distill.reporting.compare import compare
from distill.reporting.comparison_summary import front_title
from distill.reporting.figure import draw_learning_curves, save_figure
from distill.reporting.formats import render, save, terminal_width
from distill.reporting.gather import Run, gather
from distill.reporting.learning_curve import describe_curves, learning_curves

SUFFIXES = (".md", ".csv", ".json", ".html")


def write_sweep(directory: Path, out: Path | None = None, x: str = "parameters") -> str:
    """Write sweep.md, .csv, .json, .html and front.png for the runs under ``directory``.

    Called after each finished job of a sweep: runs that are not finished are listed. A sweep over
    several test sets has a set of files for each, ``sweep-DATA.md`` and so on. Where the runs
    differ in their amount of unlabeled text, unlabeled.png shows what it brings.

    Args:
        directory: The sweep's folder.
        out: Folder of the files; ``directory`` where None.
        x: The cost that the front trades.

    Returns:
        The table for the terminal.
    """
    out = out or directory
    out.mkdir(parents=True, exist_ok=True)
    runs, unfinished = gather([directory])
    by_test_set: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        by_test_set.setdefault(_test_set(run), []).append(run)
    if not by_test_set:
        return "\n".join(["No run has finished yet.", *map(str, unfinished)])
    texts = []
    for test_set, members in by_test_set.items():
        comparison = compare(members, unfinished, x)
        name = f"-{_name(test_set, by_test_set)}" if len(by_test_set) > 1 else ""
        if curves := learning_curves(comparison, members):
            figure = out / f"unlabeled{name}.png"
            teachers = [row.value(comparison.y) for row in comparison.rows if row.is_teacher]
            save_figure(
                draw_learning_curves(
                    curves,
                    [value for value in teachers if value is not None],
                    comparison.y,
                    front_title(comparison),
                ),
                figure,
            )
            comparison.notes.append(describe_curves(curves, comparison, figure.name))
        for suffix in SUFFIXES:
            save(comparison, out / f"sweep{name}{suffix}")
        save(comparison, out / f"front{name}.png")
        texts.append(render(comparison, "table", terminal_width()))
    return "\n\n".join(texts)


def _test_set(run: Run) -> tuple[str, str, str]:
    """Return task, name and fingerprint."""
    report = run.report
    return report.task, report.data.name, str(report.data.fingerprint)


def _name(test_set: tuple[str, str, str], others: Iterable[tuple[str, str, str]]) -> str:
    """Return the data's name, with the fingerprint's start where two test sets share it."""
    task, name, fingerprint = test_set
    if sum(name == other for _, other, _ in others) > 1:
        name = f"{name}-{task}-{fingerprint[:8]}"
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
