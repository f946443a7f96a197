"""Around the runs of ``distill -m``: their names before, the sweep's report after each of them."""

import os
import sys
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from distill.config.naming import SWEPT
from distill.config.resolvers import register_resolvers
from distill.core.errors import UserError
from distill.distributed.environment import external_launcher

_outcome = {"failed": False}


def check_sweep(config: DictConfig) -> None:
    """Refuse a strategy whose processes are for a single run.

    Lightning's own ddp starts the command again in each process, which under ``-m`` means the whole
    sweep: who asks for it here has something else in mind than what would happen.

    Raises:
        UserError: with the two ways out.
    """
    strategy = str(config.trainer.get("strategy", "auto"))
    if (
        strategy.startswith(("ddp", "fsdp"))
        and "spawn" not in strategy
        and external_launcher() is None
    ):
        raise UserError(
            f"-m with trainer.strategy={strategy}: its processes are for a single run; use "
            "trainer=ddp_spawn, which starts them for each run, or start one process for each "
            "device from outside (torchrun -m distill -m ...)"
        )
    launcher = config.get("hydra", {}).get("launcher", {})
    for key in ("tasks_per_node", "nodes"):
        if launcher.get(key, 1) != 1:
            raise UserError(
                f"hydra.launcher.{key}={launcher[key]}: each of these tasks would do the whole "
                "run; leave it at 1 and use trainer=ddp_spawn"
            )


class SweepReport(Callback):
    """Keeps the sweep's own report up to date: it is whole even if the sweep is cut short."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A launcher's process gets this object before anything that conf/ needs.
        self.__dict__.update(state)
        register_resolvers()

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Note what the sweep varies, for the jobs' names."""
        try:
            check_sweep(config)
        except UserError as error:  # Hydra makes a warning of what is raised here
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        given = list(config.hydra.overrides.task)
        params = config.hydra.sweeper.get("params") or {}
        given += [f"{key}={value}" for key, value in params.items()]
        swept = [
            override.get_key_element()
            for override in OverridesParser.create().parse_overrides(given)
            if override.is_sweep_override()
        ]
        os.environ[SWEPT] = ",".join(swept)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Rewrite the sweep's report."""
        if config.hydra.mode == RunMode.MULTIRUN:
            _write_sweep_report(Path(config.hydra.sweep.dir))

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Print the sweep's report, and remember whether a job failed."""
        folder = Path(config.hydra.sweep.dir)
        print(_write_sweep_report(folder))
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


def _write_sweep_report(folder: Path) -> str:
    from distill.reporting.sweep import write_sweep

    return write_sweep(folder)
