"""What a run leaves for TensorBoard: curves, final measurements, report, figure, HParams row.

Runs are compared below any folder that holds them, single runs and sweeps of differing objectives
mixed. What the HParams tab of TensorBoard 2.21 shows of that follows from its rules:

- As soon as any run declares an experiment, one such declaration, picked at random, decides which
  columns there are. So no run declares one: the columns are then all hyperparameters and all
  scalars of all runs.
- Columns are sorted by name, hyperparameters that differ before those that do not, and only the
  first five hyperparameters and the first five scalars are shown until others are ticked. A run
  that lacks one of the columns shown has no line in the parallel coordinates. Hence the names and
  the values filled in here: what every run has comes first. (Over tasks that are measured
  differently, by accuracy and by pearson, untick the metrics that only some runs have.)
- Rows of one name are averaged, and some 15 characters of a name can be seen: a row is called
  after the run first and its folder second.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.image
import pytorch_lightning.loggers
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from torch.utils.tensorboard import SummaryWriter

from distill.reporting.conclusion import latency, main_metric

# What a run is. Behind it sort temperature.TERM, training.NAME and weight.TERM, which every run
# has too, and then with.TERM.NAME, which only some have.
FIRST_COLUMNS = ("data", "objective", "seed", "student", "teacher")
# What every run has in the HParams tab: an objective without a term gives it the weight 0, and
# logits that nothing softens have the temperature 1.
WITHOUT_TERMS = {
    "hard_labels.weight": 0.0,
    "soft_targets.weight": 0.0,
    "soft_targets.temperature": 1.0,
}


class TensorBoardLogger(pytorch_lightning.loggers.TensorBoardLogger):
    """Lightning's logger, straight into a run's folder and without its by-products.

    No ``hparams.yaml``, no ``hp_metric``, no ``epoch`` curve. What is logged under ``control/``,
    ``teacher/`` and the names of earlier stages is written as ``train/loss/control``: it stands
    beside the student's curve, and nothing sorts before ``final/``. One logger serves the trainings
    of a run one after another: each opens one event file, and their tags differ, so steps of one do
    not touch another's.

    Args:
        directory: the run's folder.
    """

    def __init__(self, directory: Path):
        # TensorBoard reads anew every 30 s; the default of 120 s would hide most of a short run.
        super().__init__(directory, name="", version="", default_hp_metric=False, flush_secs=10)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write scalars, without the ``epoch`` that Lightning adds to every call."""
        tags = {
            re.sub(r"^(\w+)/((?:train|validation|learning_rate)\b.*)", r"\2/\1", name): value
            for name, value in metrics.items()
            if name != "epoch"
        }
        super().log_metrics(tags, step)

    def save(self) -> None:
        """Flush; settings are in ``config.yaml`` already."""
        self.experiment.flush()


def write_final(
    directory: Path,
    report: dict[str, Any],
    hyperparameters: Mapping[str, float | int | str | bool],
    markdown: str,
    figure: Path,
) -> None:
    """Write what is known at a run's end: measurements, charts, report, figure, HParams row.

    The step of a final measurement is the model's number of parameters: over many runs the chart
    of ``final/accuracy`` is their trade-off.

    Args:
        directory: the run's folder.
        report: report.json's content, schema 1. The measurements are the student's, or the first
            model's where there is no student.
        hyperparameters: the few that matter, the same names in every run as far as they apply;
            those of the objective's terms are called ``TERM.weight``, ``TERM.temperature``, ...
        markdown: the report as text.
        figure: the trade-off, a PNG.
    """
    scalars = final_scalars(report)
    row = f"{directory.resolve().name} in {directory.resolve().parent.name}"
    with SummaryWriter(str(directory)) as writer:
        for tag, value in scalars.items():
            writer.add_scalar(tag, value, int(scalars["final/parameters"]))
        writer.add_custom_scalars(_charts(report))
        writer.file_writer.add_summary(hparams_pb(_columns(hyperparameters), trial_id=row))
        _write_page(writer, "report", markdown, "tradeoff", figure)


def write_sweep(directory: Path, markdown: str, figure: Path, part: str = "") -> None:
    """Write a sweep's comparison and front (a PNG) into its own folder, above its runs.

    A sweep over several test sets has a comparison for each: ``part`` tells them apart.
    """
    with SummaryWriter(str(directory)) as writer:
        text, image = (f"{name}/{part}".rstrip("/") for name in ("comparison", "front"))
        _write_page(writer, text, markdown, image, figure)


def final_scalars(report: dict[str, Any]) -> dict[str, float]:
    """The measurements of a report by tag; those that were not taken are left out.

    ``final/`` has the six that runs are compared by, ``measures/`` the others.
    """
    models = report["models"]
    model = next((m for m in models if m["role"] == "student"), models[0])
    metric, size, speed = main_metric(report), model["size"], model["speed"] or {}
    comparison = report["comparison"] or {}
    quality = {name: entry["value"] for name, entry in (model["quality"] or {}).items()}
    final = {
        metric: quality.pop(metric, None),
        "gain_over_control": (comparison.get("gain_over_control") or {}).get("value"),
        "latency_ms": latency(model),
        "multiply_accumulates": size["multiply_accumulates"],
        "parameters": size["parameters"],
        "retention": comparison.get("retention"),
    }
    measures = {
        **quality,
        **(model["calibration"] or {}),
        **(model["fidelity"] or {}),
        "bytes": size["bytes"],
        "examples_per_second": speed.get("examples_per_second"),
    }
    tagged = {f"final/{name}": value for name, value in final.items()}
    tagged |= {f"measures/{name}": value for name, value in measures.items()}
    return {tag: value for tag, value in tagged.items() if value is not None}


def _columns(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Hyperparameters under names that sort well; see the head of this file."""
    columns = {}
    for name, value in (WITHOUT_TERMS | dict(hyperparameters)).items():
        term, _, setting = name.rpartition(".")
        if name in FIRST_COLUMNS:
            columns[name] = value
        elif name in WITHOUT_TERMS:
            columns[f"{setting}.{term}"] = value
        else:
            columns[f"with.{name}" if term else f"training.{name}"] = value
    return columns


def _charts(report: dict[str, Any]) -> dict[str, dict[str, list]]:
    """The custom-scalars layout, tags as regular expressions.

    TensorBoard merges equal charts: runs of any objective share one set, with a chart a metric.
    """
    metrics = {name: None for model in report["models"] for name in model["quality"] or {}}
    return {
        "validation: student and control": {
            name: ["Multiline", [rf"validation/{name}(/control)?$"]] for name in metrics
        },
        "training loss of the student: total and terms": {
            "loss": ["Multiline", [r"train/loss(?!.*/(control|teacher)$)"]]
        },
    }


def _write_page(
    writer: SummaryWriter, text_tag: str, markdown: str, image_tag: str, figure: Path
) -> None:
    # A link to the figure's file leads nowhere within TensorBoard.
    writer.add_text(text_tag, re.sub(r"!\[[^]]*\]\([^)]*\)\n*", "", markdown))
    writer.add_image(image_tag, matplotlib.image.imread(figure), dataformats="HWC")
