"""The command ``distill``: one run, or a sweep with ``-m``."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from distill.cli.shell import HydraCommand
from distill.cli.sweep import exit_code
from distill.distributed.environment import external_process_rank
from distill.pipeline.execute import execute_run

if TYPE_CHECKING:
    from distill.distributed.worker_group import WorkerGroup


class DistillCommand(HydraCommand):
    """Distills once, or once for each combination of a sweep.

    Args:
        workers: The other processes that torchrun or srun has started.
    """

    def __init__(self, workers: "WorkerGroup | None" = None) -> None:
        super().__init__()
        self.workers = workers

    def after_interrupt(self) -> str:
        """Return how to continue the run, or the sweep: its finished runs are not repeated."""
        if self.sweep_folder is not None:
            option = f"output_dir={shown_path(self.sweep_folder)}"
            given = any(argument.startswith("output_dir=") for argument in sys.argv)
            return f"the same command {'' if given else f'with {option} '}continues the sweep"
        if self.folder is None or not (self.folder / "config.yaml").is_file():
            return "nothing was begun, the same command starts again"
        return f"distill resume={shown_path(self.folder)} continues the run"

    def run(self, config: DictConfig, overrides: list[str], folder: Path) -> str:
        """Run once; in a sweep, the folder of a run that failed is kept with the reason in it."""
        in_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
        report = execute_run(config, overrides, folder, keep_folder=in_sweep, workers=self.workers)
        return str(report)


def shown_path(folder: Path) -> str:
    """Return a folder as it is typed in a shell, from here where it is below."""
    path = folder.absolute()
    return shlex.quote(
        str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
    )


def main() -> None:
    """Entry point of the command."""
    process, workers = external_process_rank(), None
    if process is not None:
        from distill.distributed.worker import worker_main
        from distill.distributed.worker_group import WorkerGroup

        if process.rank > 0:
            return worker_main()
        workers = WorkerGroup.join_external(process)
    try:
        code = DistillCommand(workers).execute(sys.argv[1:])
    finally:
        if workers is not None:
            workers.shutdown()
    sys.exit(code or exit_code())


if __name__ == "__main__":
    main()
