"""Runs of the command, in this process or in one of their own, that leave no trace in it."""

import io
import logging
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from hydra.core.global_hydra import GlobalHydra
from matplotlib.layout_engine import ConstrainedLayoutEngine
from torch.optim.optimizer import register_optimizer_step_pre_hook

from tests.golden.cases import Case, Group
from tests.golden.inputs import build
from tests.golden.record import record

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE",
}  # fmt: skip
UNSET = ("HYDRA_FULL_ERROR", "DISTILL_SWEPT", "DISTILL_CACHE")


class Cut(RuntimeError):
    """Ends a run in the middle of a training."""


class Failed(RuntimeError):
    """A run that neither finished nor was refused."""


def run_group(group: Group, folder: Path) -> dict[str, Any]:
    """Build models and data in an empty folder, run the cases in order, record each by its name."""
    build(folder)
    return {case.name: run_case(case, folder) for case in group.cases}


def run_case(case: Case, folder: Path) -> dict[str, Any]:
    """Run a case in a folder with models and data; record it, or that it was refused."""
    if case.stops_at is not None:
        with _cut_before(case.stops_at):
            code, said = command(case.arguments, folder)
        if code != 1:
            raise Failed(f"{case.name} was not cut off: {said}")
        code, said = command([f"resume={case.name}"], folder)
    elif case.apart:
        code, said = command_apart(case.arguments, folder)
    else:
        code, said = command(case.arguments, folder)
    if code not in (0, 2):
        raise Failed(f"{case.name}: exit code {code}: {said}")
    return record(folder / case.name) if code == 0 else {"exit": code}


def command(arguments: list[str], folder: Path) -> tuple[int, str]:
    """Run the command in this process; its exit code (1 if it was cut off) and what it said."""
    from distill.__main__ import main

    said = io.StringIO()
    with _own_state(folder, ["distill", *arguments]), redirect_stdout(said), redirect_stderr(said):
        try:
            main()
            code = 0
        except SystemExit as exit:
            code = exit.code or 0
        except Cut:
            code = 1
    return int(code), said.getvalue()


def command_apart(arguments: list[str], folder: Path) -> tuple[int, str]:
    """Run the command in a process of its own; its exit code and what it said."""
    environment = {key: value for key, value in os.environ.items() if key not in UNSET}
    environment |= ENVIRONMENT | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "distill", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@contextmanager
def _cut_before(step: int) -> Iterator[None]:
    """Raise before an optimizer step, counted from 1 over all trainings."""
    done = 0

    def count(*_: Any) -> None:
        nonlocal done
        done += 1
        if done == step:
            raise Cut(f"cut off before step {step}")

    handle = register_optimizer_step_pre_hook(count)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _own_state(folder: Path, arguments: list[str]) -> Iterator[None]:
    """Working directory, arguments, environment, threads, logging, warnings, signals of a run."""
    here, given, threads = Path.cwd(), sys.argv, torch.get_num_threads()
    environment, root = dict(os.environ), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    interrupt = signal.getsignal(signal.SIGINT)
    os.environ.update(ENVIRONMENT)
    for name in UNSET:
        os.environ.pop(name, None)
    os.chdir(folder)
    sys.argv = arguments
    torch.set_num_threads(1)
    GlobalHydra.instance().clear()
    try:
        # A figure's layout takes as long as its training, and no figure is frozen.
        with warnings.catch_warnings(), patch.object(ConstrainedLayoutEngine, "execute"):
            yield
    finally:
        GlobalHydra.instance().clear()
        for handler in root.handlers[:]:
            if handler not in handlers:
                handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)
        signal.signal(signal.SIGINT, interrupt)
        torch.set_num_threads(threads)
        sys.argv = given
        os.chdir(here)
        os.environ.clear()
        os.environ.update(environment)
