"""Final entries of a run for TensorBoard: measurements, charts, report, figure, HParams row.

Runs are compared below any folder that contains them, also single runs beside sweeps of different
objectives. The layout follows the rules of the HParams tab of TensorBoard 2.21:

- As soon as any run declares an experiment, one such declaration, picked at random, decides on the
  columns. Therefore no run declares one: the columns are then all hyperparameters and all scalars
  of all runs.
- Columns are sorted by name, hyperparameters that differ before those that do not, and only the
  first five hyperparameters and the first five scalars are shown until others are ticked. A run
  without a value in one of the shown columns has no line in the parallel coordinates. Therefore
  names and default values are chosen here such that what every run has comes first. (Over tasks
  with different metrics, accuracy and pearson for example, untick those that only some runs have.)
- Rows with the same name are averaged, and about 15 characters of a name are visible: a row is
  named after the run first and its folder second.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from tensorboard.plugins.hparams.summary_v2 import hparams_pb

from distill.reporting import text
from distill.reporting.event_file import EventFile, Layout
from distill.reporting.quantities import of_kinds
from distill.reporting.schema import Report

Hyperparameter = float | int | str | bool

# These identify a run. After them sort temperature.TERM, training.NAME and weight.TERM, which every
# run has too, and then with.TERM.NAME, which only some have.
FIRST_COLUMNS = ("data", "objective", "seed", "student", "teacher")
# Defaults in the HParams tab: an objective without a term gives it the weight 0, and logits that
# are not softened have the temperature 1.
WITHOUT_TERMS = {
    "hard_labels.weight": 0.0,
    "soft_targets.weight": 0.0,
    "soft_targets.temperature": 1.0,
}


# Of the names of event files that are replaced when they are written again.
FINAL, SWEEP = ".final", ".sweep"


def write_final(
    directory: Path,
    report: Report,
    hyperparameters: Mapping[str, Hyperparameter],
    markdown: str,
    figure: Path,
) -> None:
    """Write what is known at the end of a run: measurements, charts, report, figure, HParams row.

    The step of a final measurement is the model's number of parameters: over many runs the chart
    of ``final/accuracy`` is their trade-off.

    Args:
        directory: The run's folder.
        report: Its measurements are the student's, or the first model's where there is no student.
        hyperparameters: The few that matter, with the same names in every run as far as they
            apply; those of the objective's terms are called ``TERM.weight``, ``TERM.temperature``.
        markdown: The report as text.
        figure: The trade-off, a PNG.
    """
    scalars = final_scalars(report)
    row = f"{directory.resolve().name} in {directory.resolve().parent.name}"
    with EventFile(directory, suffix=FINAL) as file:
        for tag, value in scalars.items():
            file.add_scalar(tag, value, int(scalars["final/parameters"]))
        file.add_custom_scalars(_charts(report))
        file.add_summary(hparams_pb(_columns(hyperparameters), trial_id=row))
        _write_page(file, "report", markdown, "tradeoff", figure)


def write_sweep(directory: Path, markdown: str, figure: Path, part: str = "") -> None:
    """Write a sweep's comparison and front (a PNG) into its own folder, above its runs.

    A sweep over several test sets has a comparison for each: ``part`` distinguishes them.
    """
    with EventFile(directory, suffix=f".{part.replace('.', '-')}{SWEEP}") as file:
        comparison, image = (f"{name}/{part}".rstrip("/") for name in ("comparison", "front"))
        _write_page(file, comparison, markdown, image, figure)


def final_scalars(report: Report) -> dict[str, float]:
    """Return the measurements of a report by tag; those that were not taken are left out.

    ``final/`` has the six that runs are compared by, ``measures/`` the others.
    """
    model = report.student or report.models[0]
    metric = report.main_metric
    tagged: dict[str, float | None] = {
        f"{measured.tag}/{measured.name}": measured.read(model)
        for measured in of_kinds("size", "speed")
        if measured.tag
    }
    for name, value in model.scores.items():
        tagged[f"{'final' if name == metric else 'measures'}/{name}"] = value
    tagged["final/gain_over_control"] = report.gain_over_control.value
    tagged["final/retention"] = report.comparison.retention if report.comparison else None
    return {tag: value for tag, value in tagged.items() if value is not None}


def _columns(hyperparameters: Mapping[str, Hyperparameter]) -> dict[str, Hyperparameter]:
    """Return hyperparameters under names that sort well, see the module's docstring."""
    columns: dict[str, Hyperparameter] = {}
    for name, value in (WITHOUT_TERMS | dict(hyperparameters)).items():
        term, _, setting = name.rpartition(".")
        if name in FIRST_COLUMNS:
            columns[name] = value
        elif name in WITHOUT_TERMS:
            columns[f"{setting}.{term}"] = value
        else:
            columns[f"with.{name}" if term else f"training.{name}"] = value
    return columns


def _charts(report: Report) -> Layout:
    """Return the layout of the custom-scalars tab.

    TensorBoard merges equal charts: runs of any objective share one set, with a chart per metric.
    """
    metrics = dict.fromkeys(name for model in report.models for name in model.quality)
    return {
        "validation: student and control": {
            name: [rf"validation/{name}(/control)?$"] for name in metrics
        },
        "training loss of the student: total and terms": {
            "loss": [r"train/loss(?!.*/(control\w*|teacher)$)"]
        },
    }


def aligned_tables(markdown: str) -> str:
    """Return Markdown whose tables are aligned text in code blocks.

    TensorBoard breaks the words of wide tables to make them narrower; a code block can be scrolled.
    """
    return re.sub(r"^\|.*\|\n\|[-:|]+\|$(?:\n\|.*\|$)*", _aligned, markdown, flags=re.MULTILINE)


def _aligned(table: re.Match[str]) -> str:
    header, rule, *rows = [
        [text.unescape_markdown(cell.strip()) for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in table[0].splitlines()
    ]
    left = sum(not cell.endswith(":") for cell in rule)
    return text.code_block("\n".join(text.plain_table(header, rows, left)))


def _write_page(
    file: EventFile, text_tag: str, markdown: str, image_tag: str, figure: Path
) -> None:
    # Links to image files do not work within TensorBoard.
    file.add_text(text_tag, aligned_tables(re.sub(r"!\[[^]]*\]\([^)]*\)\n*", "", markdown)))
    file.add_png(image_tag, figure)
