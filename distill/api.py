"""The Python API: what the commands do, as functions for scripts and notebooks.

Options are written as on the command line. A mistake raises :class:`distill.UserError` instead of
ending the program. Hydra's global state and the handlers of the root logger are afterwards what
they were before.
"""

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from distill.config import legacy
from distill.config.composition import compose_run
from distill.config.error_messages import user_message
from distill.config.resolvers import conf_dir
from distill.core.errors import UserError
from distill.core.terminal import PrintableFormatter
from distill.distributed.environment import external_process_rank

if TYPE_CHECKING:
    from distill.reporting.schema import Report


def run(overrides: Sequence[str] = ()) -> "Report":
    """Train a student as the command ``distill`` does, and return its report.

    Everything is written into the run's folder (``report.run.directory``), as by the command.

    Args:
        overrides: Options as on the command line, such as ``["data=files", "data.path=FOLDER"]``.

    Raises:
        UserError: For a mistake, before any training.
    """
    from distill.pipeline.execute import execute_run

    return _execute(overrides, "config", execute_run)


def evaluate(
    model: str | Path, overrides: Sequence[str] = (), *, reference: str | Path | None = None
) -> "Report":
    """Measure a saved model on a data set, as the command ``distill-evaluate`` does.

    Args:
        model: A folder, a run's folder (its student), an exported one, or a hub id.
        overrides: Options as on the command line, such as ``["data=files", "data.path=FOLDER"]``;
            see ``distill-evaluate --help``.
        reference: Another model to compare it with, such as its teacher.

    Returns:
        The report, with the model as its student, and the reference as its teacher.

    Raises:
        UserError: For a mistake, before anything is measured.
    """
    from distill.cli.evaluate import open_exported
    from distill.pipeline.execute import execute_evaluation

    models = [f"model={_quoted(model)}"]
    if reference is not None:
        models.append(f"reference={_quoted(reference)}")
    with _mistakes_raised():
        _check_overrides(overrides)
    return _execute(
        [*models, *overrides], "evaluate", partial(execute_evaluation, open_exported=open_exported)
    )


def _quoted(path: str | Path) -> str:
    """Return a path as the value of an override, whatever signs are in it."""
    escaped = str(path).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _execute(
    overrides: Sequence[str],
    config_name: str,
    execute: "Callable[[DictConfig, list[str], Path], Report]",
) -> "Report":
    """Compose a config and execute it, with the log lines of the command."""
    with _mistakes_raised(), legacy.rename_notices():
        _check_overrides(overrides)
        config, folder = compose_run(overrides, config_name)
        folder.mkdir(parents=True, exist_ok=True)
        with _run_logging(folder / "run.log"):
            return execute(config, list(config.overrides), folder)


def _check_overrides(overrides: Sequence[str]) -> None:
    if isinstance(overrides, str):
        raise UserError(f'overrides are a list: ["{overrides}"]')
    for override in overrides:
        if override.startswith("-"):
            raise UserError(
                f"{override}: flags are for the command; sweeps are loops here, or distill -m"
            )
    if external_process_rank() is not None:
        raise UserError(
            "several processes were started from outside: start the command (torchrun -m distill)"
        )


@contextmanager
def _mistakes_raised() -> Iterator[None]:
    """Raise Hydra's errors as what they mean to the user."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        message = user_message(error)
        if message is None:
            raise
        raise UserError(message) from error


@contextmanager
def _run_logging(file: Path) -> Iterator[None]:
    """Write log records into a file, and to standard output unless somebody else shows them."""
    conf = OmegaConf.load(Path(conf_dir()) / "hydra" / "job_logging" / "distill.yaml")
    handlers: list[logging.Handler] = [logging.FileHandler(file, delay=True, encoding="utf-8")]
    handlers[0].setFormatter(PrintableFormatter(conf.formatters.dated.format))
    root = logging.getLogger()
    if not root.handlers:
        handlers.append(logging.StreamHandler(sys.stdout))
        handlers[1].setFormatter(PrintableFormatter(conf.formatters.plain.format))
    level = root.level
    root.setLevel(conf.root.level)
    for handler in handlers:
        root.addHandler(handler)
    try:
        yield
    finally:
        root.setLevel(level)
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()
