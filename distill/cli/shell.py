"""What the commands with Hydra options share: composition, mistakes, interrupts, exit codes.

Only what composing needs is imported here, so that help and mistakes answer at once.
"""

import io
import os
import signal
import sys
import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from distill.cli.sweep import note_failure
from distill.config import legacy
from distill.config.composition import HYDRA_VERSION, set_up_hydra
from distill.config.error_messages import hydra_errors_raised, one_line
from distill.config.quoting import quote_overrides
from distill.config.resolvers import conf_dir
from distill.config.trust import hydra_node_checked
from distill.core.errors import UnmetGoal, UserError
from distill.core.terminal import printable

# Signals that end a command as Ctrl-C does: of schedulers, and of terminals that are closed.
ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class _Signals:
    """Makes the signals of :data:`ENDING` raise KeyboardInterrupt, and remembers which it was."""

    def __init__(self) -> None:
        self.received: int = signal.SIGINT

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handle them within the context; those that are ignored (nohup) stay so."""
        before = {}
        for number in ENDING:
            try:
                if signal.getsignal(number) == signal.SIG_DFL:
                    before[number] = signal.signal(number, self._interrupt)
            except ValueError:  # not the main thread
                break
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _interrupt(self, number: int, _: FrameType | None) -> None:
        self.received = number
        for other in ENDING:  # what is left to do takes a moment, and a second one would break it
            signal.signal(other, signal.SIG_IGN)
        raise KeyboardInterrupt


def accept_every_character() -> None:
    """Show a question mark for what the terminal's encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def checked_arguments(given: Sequence[str]) -> list[str]:
    """Return a command line that Hydra's parser takes: ``-m`` may stand anywhere.

    Raises:
        UserError: for a flag that does not exist or lacks its value.
    """
    sweeps = [argument for argument in given if argument in ("-m", "--multirun")]
    arguments = [*sweeps[:1], *(argument for argument in given if argument not in sweeps)]

    def refuse(message: str) -> NoReturn:
        raise UserError(f"{message}; flags come before NAME=VALUE, see --help")

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    parser.parse_args(arguments)
    return arguments


class HydraCommand(ABC):
    """A command whose options are composed by Hydra.

    A mistake of the user is one line on standard error and exit code 2; HYDRA_FULL_ERROR=1 shows
    the traceback.
    """

    #: The primary config below conf/.
    config_name = "config"

    def __init__(self) -> None:
        self._failure: Exception | None = None
        self._has_begun = False
        #: The run's folder, and that of the sweep it is in; ``None`` before anything is run.
        self.folder: Path | None = None
        self.sweep_folder: Path | None = None

    @abstractmethod
    def after_interrupt(self) -> str:
        """Return how to go on after an interrupt."""

    def hydra_arguments(self, given: list[str]) -> list[str]:
        """Return the command line that Hydra is to see."""
        return given

    @abstractmethod
    def run(self, config: DictConfig, overrides: list[str], folder: Path) -> str:
        """Do the command's work, or one job of a sweep.

        Args:
            config: Composed, not validated.
            overrides: What it was composed with.
            folder: Where everything is written; not created.

        Returns:
            What the terminal shows.
        """

    def execute(self, arguments: Sequence[str]) -> int:
        """Compose and run.

        Returns:
            The exit code: 2 after a mistake of the user, 1 after another failure, 128 and the
            signal's number after Ctrl-C, SIGTERM and SIGHUP. Failed jobs of a sweep do not count:
            they are reported where they fail.
        """
        accept_every_character()
        wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
        self._failure, self._has_begun = None, False
        signals = _Signals()
        try:
            set_up_hydra()
            with (
                signals.handled(), legacy.rename_notices(), hydra_errors_raised(),
                hydra_node_checked(),
            ):  # fmt: skip
                given = quote_overrides(legacy.update_overrides(arguments))
                sys.argv[1:] = checked_arguments(self.hydra_arguments(given))
                hydra.main(
                    version_base=HYDRA_VERSION, config_path=conf_dir(), config_name=self.config_name
                )(self._job)()
            if self._failure is not None:
                raise self._failure
        except KeyboardInterrupt:
            print(f"interrupted: {printable(self.after_interrupt())}", file=sys.stderr)
            return 128 + signals.received
        except UnmetGoal as report:
            print(printable(str(report)))
            return 1
        except Exception as error:
            message, code = one_line(error)
            if isinstance(error, OSError) and error.errno and not self._has_begun:  # its folder
                reason = error.strerror or str(error)
                message, code = f"output_dir: {error.filename} cannot be made: {reason}", 2
            if message is None or wants_traceback:
                raise
            print(f"error: {printable(message)}", file=sys.stderr)
            return code
        return 0

    def _job(self, config: DictConfig) -> None:
        """Run once. Hydra must not see failures: it would add lines of its own."""
        self._has_begun = True
        hydra_config = HydraConfig.get()
        self.folder = folder = Path(hydra_config.runtime.output_dir)
        if hydra_config.mode == RunMode.MULTIRUN:
            self.sweep_folder = Path(hydra_config.sweep.dir)
        try:
            config = legacy.update_config(config)
            print(printable(self.run(config, list(hydra_config.overrides.task), folder)))
        except Exception as error:
            if hydra_config.mode == RunMode.MULTIRUN:  # the other jobs go on
                message = one_line(error)[0] or traceback.format_exc()
                print(f"error: {printable(message)}", file=sys.stderr)
                note_failure(folder, message)
            else:
                self._failure = error
