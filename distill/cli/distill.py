"""The command ``distill``: a thin Hydra shell around ``train.run``.

Only what composing needs is imported here, so that help and mistakes answer at once.
"""

import os
import shutil
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from distill.cli.sweep import exit_code
from distill.config.error_messages import hydra_errors_raised, user_message
from distill.config.resolvers import conf_dir, register_resolvers
from distill.config.validation import validate_config
from distill.core.errors import UserError
from distill.distributed.environment import external_process_rank

if TYPE_CHECKING:
    from distill.distributed.worker_group import WorkerGroup

FAILED = "error.txt"
UNTOUCHED = {"run.log", "config.yaml"}


class Shell:
    """Runs a command's jobs. Hydra must not see failures: it would add lines of its own.

    Args:
        workers: the other processes that torchrun or srun has started.
    """

    def __init__(self, workers: "WorkerGroup | None" = None):
        self.workers = workers
        self.failure: Exception | None = None

    def job(self, config: DictConfig) -> None:
        """One run, or one job of a sweep."""
        hydra_config = HydraConfig.get()
        folder = Path(hydra_config.runtime.output_dir)
        try:
            config = _resume(config, list(hydra_config.overrides.task))
            config.output_dir = str(folder)
            validate_config(config)
            # Heavy imports wait until the config is known to be right.
            from distill.core.third_party_logging import silence_third_party_logging

            silence_third_party_logging()
            from distill.pipeline.run import run

            print(run(config, workers=self.workers))
            (folder / FAILED).unlink(missing_ok=True)  # of an earlier attempt, resumed
        except Exception as error:
            message = user_message(error)
            if hydra_config.mode == RunMode.MULTIRUN:  # the other jobs go on
                print(f"error: {message or traceback.format_exc()}", file=sys.stderr)
            else:
                self.failure = error
            if self.failure is None or not (message and _remove_if_untouched(folder)):
                folder.mkdir(parents=True, exist_ok=True)
                (folder / FAILED).write_text((message or repr(error)) + "\n", encoding="utf-8")


def main() -> None:
    """Entry point: compose, run, and answer a mistake with one line and exit code 2."""
    process, workers = external_process_rank(), None
    if process is not None:
        from distill.distributed.worker import worker_main
        from distill.distributed.worker_group import WorkerGroup

        if process.rank > 0:
            return worker_main()
        workers = WorkerGroup.join_external(process)
    register_resolvers()
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    shell = Shell(workers)
    try:
        with hydra_errors_raised():
            hydra.main(version_base="1.3", config_path=conf_dir(), config_name="config")(
                shell.job
            )()
        if shell.failure is not None:
            raise shell.failure
    except KeyboardInterrupt:
        print("interrupted: distill resume=FOLDER continues the run", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        message = user_message(error)
        if message is None or wants_traceback:
            raise
        print(f"error: {message}", file=sys.stderr)
        sys.exit(2)
    finally:
        if workers is not None:
            workers.shutdown()
    sys.exit(exit_code())


def _resume(config: DictConfig, overrides: list[str]) -> DictConfig:
    """The config to run: this one, or that of the run to continue."""
    if config.resume is None:
        config.overrides = overrides
        return config
    others = [override for override in overrides if not override.startswith("resume=")]
    if others:
        raise UserError(
            f"resume continues a run with its own settings: leave out {' '.join(others)}"
        )
    from distill.pipeline.run_directory import load_interrupted_config

    return load_interrupted_config(config.resume)


def _remove_if_untouched(folder: Path) -> bool:
    """Remove what would look like a run, if a mistake was found before anything was trained."""
    untouched = folder.is_dir() and {file.name for file in folder.iterdir()} <= UNTOUCHED
    if untouched:
        shutil.rmtree(folder)
    return untouched


if __name__ == "__main__":
    main()
