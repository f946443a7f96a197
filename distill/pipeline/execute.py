"""From a composed config to a finished run: validation before, tidying up after a failure.

Nothing heavy is imported until the config is known to be valid.
"""

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, open_dict

from distill.config import legacy
from distill.config.error_messages import one_line, user_message
from distill.config.validation import validate_config
from distill.core.cache import USED, used_by
from distill.core.checksums import DamagedError, check_folder
from distill.core.errors import UserError
from distill.pipeline import run_identity

if TYPE_CHECKING:
    from distill.distributed.worker_group import WorkerGroup
    from distill.pipeline.evaluate import ExportedModelOpener
    from distill.reporting.schema import Report

log = logging.getLogger(__name__)

ERROR_FILE = "error.txt"
# What a task and its own choice of student bring along that an evaluation has no use for.
OF_TRAINING = (
    "student", "teacher", "optimizer", "repeats", "trainer.max_epochs", "trainer.patience",
)  # fmt: skip
# Files that a run writes before it does anything: a folder without others is no run.
UNTOUCHED = frozenset({"run.log", "config.yaml", USED, run_identity.INPUTS, run_identity.LOCK})


def execute_run(
    config: DictConfig,
    overrides: list[str],
    folder: Path,
    *,
    keep_folder: bool = False,
    workers: "WorkerGroup | None" = None,
) -> "Report":
    """Validate a config and run it.

    Args:
        config: Composed; with ``resume`` set, the config of that run is taken instead.
        overrides: What it was composed with, for the report.
        folder: The run's.
        keep_folder: Keep the folder, with the reason in ``error.txt``, even if a mistake was found
            before anything was trained.
        workers: The other processes that torchrun or srun has started.

    Returns:
        The run's report.

    Raises:
        UserError: For a mistake of the user, before any training.
    """
    is_resumed = config.get("resume") is not None
    if is_resumed:
        _check_interrupted(config.resume, folder)
    with run_identity.locked(folder), _recorded_failure(folder, keep_folder):
        config = _config_to_run(config, overrides)
        config.output_dir = str(folder)
        validate_config(config, typed=overrides)
        _check_writable("cache_dir", Path(config.cache_dir).expanduser())
        # A resumed run's settings are its own, and the defaults of options that are newer than it.
        if not config.get("overwrite") and not is_resumed:
            run_identity.check_same_settings(folder, config)
        log.info("run: %s", folder)
        from distill.core.third_party_logging import silence_third_party_logging

        silence_third_party_logging()
        from distill.pipeline.run import run

        with used_by(folder):
            return run(config, workers=workers)


def execute_evaluation(
    config: DictConfig,
    overrides: list[str],
    folder: Path,
    open_exported: "ExportedModelOpener | None" = None,
) -> "Report":
    """Validate the config of an evaluation and run it.

    Args:
        config: Composed.
        overrides: What it was composed with, for the report.
        folder: Folder of the report.
        open_exported: Opens exported models.

    Raises:
        UserError: For a mistake of the user, before anything is measured.
    """
    for name in (run_identity.REPORT, run_identity.CONFIG):
        if (folder / name).is_file():
            raise UserError(f"output_dir={folder}: it holds another {name}, give a new folder")
    with run_identity.locked(folder), _recorded_failure(folder, keep_folder=False):
        config.overrides, config.output_dir = overrides, str(folder)
        if given := [one for one in overrides if one.lstrip("+~").startswith(OF_TRAINING)]:
            raise UserError(f"{given[0]}: nothing is trained, model=... names what is measured")
        with open_dict(config):
            for name in OF_TRAINING:
                group, _, option = name.rpartition(".")
                (config[group] if group else config).pop(option, None)
        names = list[str | int | float | bool] | None
        types = {
            "cache_dir": str,
            "model": str,
            "labels": names,
            "reference": str | None,
            "form": str | None,
        }
        validate_config(config, ("task", "data", "trainer"), types)
        _check_writable("cache_dir", Path(config.cache_dir).expanduser())
        from distill.core.third_party_logging import silence_third_party_logging

        silence_third_party_logging()
        from distill.pipeline.evaluate import evaluate

        with used_by(folder):
            return evaluate(config, open_exported)


def _check_writable(option: str, folder: Path) -> None:
    """Refuse a folder that nothing can be written into.

    Raises:
        UserError: With the reason of the operating system.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0")
            file.flush()
    except OSError as error:
        reason = error.strerror or str(error)
        if isinstance(error, FileExistsError | NotADirectoryError):
            reason = "a file stands in its place"
        raise UserError(f"{option}={folder}: it cannot be written into: {reason}") from error


def remove_if_untouched(folder: Path, untouched: frozenset[str] = UNTOUCHED) -> bool:
    """Remove a folder that holds nothing but what is written at the start; return whether it was.

    A mistake that is found before any training leaves nothing behind that looks like a run.
    """
    is_untouched = folder.is_dir() and {file.name for file in folder.iterdir()} <= untouched
    if is_untouched:
        shutil.rmtree(folder)
    return is_untouched


@contextmanager
def _recorded_failure(folder: Path, keep_folder: bool) -> Iterator[None]:
    try:
        yield
    except run_identity.OtherRunError:
        raise  # the run that is there stays as it is
    except KeyboardInterrupt:
        if not (folder / run_identity.CONFIG).exists():  # there is nothing to continue
            remove_if_untouched(folder)
        raise
    except Exception as error:
        message = user_message(error)
        if keep_folder or not (message and remove_if_untouched(folder)):
            reason = one_line(error)[0] or repr(error)
            with suppress(OSError):  # the disk may be what failed
                folder.mkdir(parents=True, exist_ok=True)
                (folder / ERROR_FILE).write_text(f"{reason}\n", encoding="utf-8")
        raise
    (folder / ERROR_FILE).unlink(missing_ok=True)  # of an earlier attempt, resumed


def _config_to_run(config: DictConfig, overrides: list[str]) -> DictConfig:
    """Return the config, or that of the run to resume."""
    if config.resume is None:
        config.overrides = overrides
        return config
    others = [
        override for override in overrides if not override.startswith(("resume=", "allow_code="))
    ]
    if others:
        raise UserError(
            f"resume continues a run with its own settings: leave out {' '.join(others)}"
        )
    resumed = legacy.update_config(_interrupted_config(config.resume))
    with open_dict(resumed):
        for key in config:  # options that are newer than the run
            if key not in resumed:
                resumed[key] = config[key]
        resumed.overwrite, resumed.allow_code = False, config.get("allow_code") or []
    return resumed


def _check_interrupted(resume: str, folder: Path) -> None:
    """Refuse to resume what is no run, or is finished; nothing is written into it.

    A run whose report or student is damaged is not finished.

    Args:
        resume: The folder as it was given.
        folder: The run's, which may have been made for it.

    Raises:
        UserError: With the reason.
    """
    path = Path(resume).expanduser()
    if not (path / run_identity.CONFIG).is_file():
        remove_if_untouched(folder)
        raise UserError(f"resume={resume}: there is no run in it (config.yaml is missing)")
    if not (path / run_identity.REPORT).exists():
        return
    from distill.reporting.record import ReportError
    from distill.reporting.schema import load_report

    try:
        load_report(path)
        for role in ("student", "control"):
            if (path / role).exists():
                check_folder(path / role)
    except (ReportError, DamagedError) as damage:
        log.warning("resume: %s: it is made anew", damage)
        return
    raise run_identity.OtherRunError(
        f"resume={resume}: this run is finished, its report is report.md"
    )


def _interrupted_config(folder: str) -> DictConfig:
    """Return the config of a run that was interrupted."""
    return run_identity.read_config(Path(folder).expanduser())
