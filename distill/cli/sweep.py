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
from distill.core.terminal import printable
from distill.distributed.environment import external_process_rank

# Lists the jobs of a sweep that failed. Those that were refused leave no trace in their folders.
FAILED = "failed.txt"

_outcome = {"failed": False}


def check_sweep(config: DictConfig) -> None:
    """Refuse launchers of jobs that would start the processes of a run a second time.

    Raises:
        UserError: with what to do instead.
    """
    launcher = config.get("hydra", {}).get("launcher", {})
    if external_process_rank() is not None and "BasicLauncher" not in launcher.get(
        "_target_", "BasicLauncher"
    ):
        raise UserError(
            "hydra.launcher starts processes of its own for each run, which cannot use those that "
            "were started from outside: leave out hydra/launcher=..., or torchrun and srun"
        )
    for key in ("tasks_per_node", "nodes"):
        if launcher.get(key, 1) != 1:
            raise UserError(
                f"hydra.launcher.{key}={launcher[key]}: each of these tasks would do the whole "
                "run; leave it at 1 and use trainer=ddp"
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
            print(f"error: {printable(str(error))}", file=sys.stderr)
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
        (Path(config.hydra.sweep.dir) / FAILED).unlink(missing_ok=True)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Rewrite the sweep's report."""
        if config.hydra.mode == RunMode.MULTIRUN:
            _write_sweep_report(Path(config.hydra.sweep.dir))

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Print the sweep's report, and remember whether a job failed."""
        folder = Path(config.hydra.sweep.dir)
        print(printable(_write_sweep_report(folder)))
        from distill.reporting import tensorboard

        for figure in sorted(folder.glob("front*.png")):  # one for each test set
            part = figure.stem.removeprefix("front").removeprefix("-")
            table = folder / figure.with_suffix(".md").name.replace("front", "sweep")
            tensorboard.write_sweep(folder, table.read_text(encoding="utf-8"), figure, part)
        _outcome["failed"] = (folder / FAILED).is_file()
        os.environ.pop(SWEPT, None)


def note_failure(folder: Path, message: str) -> None:
    """Add a job to the sweep's list of those that failed.

    Args:
        folder: The job's.
        message: Why it failed, in one line or more.
    """
    with (folder.parent / FAILED).open("a", encoding="utf-8") as lines:
        lines.write(f"{folder.name}: {message.strip().splitlines()[-1]}\n")


def exit_code() -> int:
    """2 if a job of the sweep failed, 0 otherwise."""
    failed, _outcome["failed"] = _outcome["failed"], False
    return 2 if failed else 0


def _write_sweep_report(folder: Path) -> str:
    from distill.reporting.sweep import write_sweep

    return write_sweep(folder)
