"""The TensorBoard logger of a run's trainings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytorch_lightning.loggers


class TensorBoardLogger(pytorch_lightning.loggers.TensorBoardLogger):
    """Lightning's logger, writing straight into a run's folder and without further files.

    No ``hparams.yaml``, no ``hp_metric``, no ``epoch`` curve. Metrics logged under ``control/``,
    ``teacher/`` and the names of earlier stages are written as ``train/loss/control``: this puts
    them beside the student's curve, and nothing sorts before ``final/``. One logger serves the
    trainings of a run one after another: each opens its own event file, and their tags differ, so
    that their steps do not mix.

    Args:
        directory: The run's folder.
    """

    def __init__(self, directory: Path):
        # TensorBoard reloads every 30 s; the default of 120 s would hide most of a short run.
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
