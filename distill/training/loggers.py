"""The TensorBoard logger of a run's trainings."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytorch_lightning.loggers

from distill.reporting.event_file import NAME, drop_steps_from


class TensorBoardLogger(pytorch_lightning.loggers.TensorBoardLogger):
    """Lightning's logger, writing straight into a run's folder and without further files.

    No ``hparams.yaml``, no ``hp_metric``, no ``epoch`` curve. Metrics logged under ``control/``,
    ``teacher/`` and the names of earlier stages are written as ``train/loss/control``: this puts
    them beside the student's curve, and nothing sorts before ``final/``. One logger serves the
    trainings of a run one after another: each opens its own event file, and their tags differ, so
    that their steps do not mix.

    Args:
        directory: The run's folder.
        training: What is trained, such as ``teacher``: the end of the event file's name. ``None``
            for a logger that is only asked for those of the trainings.
    """

    def __init__(self, directory: Path, training: str | None = None):
        # TensorBoard reloads every 30 s; the default of 120 s would hide most of a short run.
        super().__init__(
            directory, name="", version="", default_hp_metric=False, flush_secs=10,
            filename_suffix=f".{training}" if training else "",
        )  # fmt: skip
        self.directory, self.training = Path(directory), training

    def of_training(self, name: str) -> TensorBoardLogger:
        """Return the logger of one training, whose event files can be told from the others."""
        return TensorBoardLogger(self.directory, name)

    def drop_steps_from(self, step: int) -> None:
        """Remove the points of a step and later ones, which the training is about to repeat."""
        if self.training:
            drop_steps_from(self.directory, f".{self.training}", step)

    def copy_curves(self, folder: Path) -> None:
        """Take the curves of a finished training over, in place of what there is of them here."""
        self.drop_steps_from(0)
        suffix = f".{self.training}"
        for events in folder.glob(f"{NAME}*"):
            shutil.copy(events, self.directory / f"{events.name.removesuffix(suffix)}{suffix}")

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
