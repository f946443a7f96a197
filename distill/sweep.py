"""What happens around the jobs of ``distill -m``: names before, the report after each of them."""

import os
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from distill.naming import SWEPT

_outcome = {"failed": False}


class SweepReport(Callback):
    """Keeps the sweep's own report up to date: it is whole even if the sweep is cut short."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Note what the sweep varies, for the jobs' names."""
        given = list(config.hydra.overrides.task)
        params = config.hydra.sweeper.get("params") or {}
        given += [f"{key}={value}" for key, value in params.items()]
        swept = [
            override.get_key_element()
            for override in OverridesParser.create().parse_overrides(given)
            if override.is_sweep_override()
        ]
        os.environ[SWEPT] = ",".join(swept)

    def on_job_end(self, config: DictConfig, **_: Any) -> None:
        """Write the sweep's report anew."""
        if config.hydra.mode == RunMode.MULTIRUN:
            _write(Path(config.hydra.sweep.dir))

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Print the sweep's report, and remember whether a job failed."""
        folder = Path(config.hydra.sweep.dir)
        print(_write(folder))
        from distill.reporting import tensorboard

        for figure in sorted(folder.glob("front*.png")):  # one for each test set
            part = figure.stem.removeprefix("front").removeprefix("-")
            table = folder / figure.with_suffix(".md").name.replace("front", "sweep")
            tensorboard.write_sweep(folder, table.read_text(encoding="utf-8"), figure, part)
        _outcome["failed"] = any(folder.glob("*/error.txt"))
        os.environ.pop(SWEPT, None)


def exit_code() -> int:
    """2 if a job of the sweep failed, 0 otherwise."""
    failed, _outcome["failed"] = _outcome["failed"], False
    return 2 if failed else 0


def _write(folder: Path) -> str:
    from distill.reporting import compare

    return compare.write_sweep(folder)
