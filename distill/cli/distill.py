"""The command ``distill``: one run, or a sweep with ``-m``."""

import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from distill.cli.shell import HydraCommand
from distill.cli.sweep import check_sweep, exit_code
from distill.distributed.environment import external_launcher
from distill.pipeline.execute import execute_run


class DistillCommand(HydraCommand):
    """Distills once, or once for each combination of a sweep."""

    after_interrupt = "distill resume=FOLDER continues the run"

    def run(self, config: DictConfig, overrides: list[str], folder: Path) -> str:
        """Run once; in a sweep, the folder of a run that failed is kept with the reason in it."""
        in_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
        report = execute_run(
            config,
            overrides,
            folder,
            check=check_sweep if in_sweep else None,
            keep_folder=in_sweep,
        )
        return str(report)


def main() -> None:
    """Entry point of the command."""
    place = external_launcher()
    if place is not None and place.rank > 0:
        from distill.distributed.workers import worker_main

        return worker_main()
    try:
        code = DistillCommand().execute(sys.argv[1:])
    finally:
        if place is not None:
            from distill.distributed.workers import shutdown_external_workers

            shutdown_external_workers()
    sys.exit(code or exit_code())


if __name__ == "__main__":
    main()
