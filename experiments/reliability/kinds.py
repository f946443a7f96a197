"""Kinds of commands that are killed at random and started again: more than a single run."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from experiments.reliability.workspace import Outcome, Process, Workspace

FIRST_TRAINING = "optimizer.learning_rate=1e-3"
# Seconds that processes may outlive the one that started them.
END_TIMEOUT = 60.0


@dataclass(frozen=True)
class Kind:
    """A kind of command.

    Attributes:
        options: beside those of every run; they count over them.
        program: ``distill`` or ``distill-search``.
        far_cache: whether the cache lies on another file system than the run.
    """

    options: tuple[str, ...] = ()
    program: str = "distill"
    far_cache: bool = False


KINDS = {
    "a single run": Kind(),
    "a single run, cache on another file system": Kind(far_cache=True),
    "a recipe of two stages": Kind((
        "objective=tinybert", "objective.intermediate.epochs=2", "objective.prediction.epochs=2",
    )),
    "a sweep of two": Kind(("-m", "student=half,single")),
    "a search of three": Kind(
        (
            "student=half,third,single", "objective.soft_targets.temperature=2",
            "objective.soft_targets.weight=0.5", FIRST_TRAINING, "search.stop_behind=null",
        ),
        program="distill-search",
    ),
    "two processes": Kind(("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu")),
    "three seeds": Kind(("repeats=3", "trainer.max_epochs=1")),
}  # fmt: skip


def overrides_of(kind: Kind, workspace: Workspace, name: str) -> list[str]:
    """Return the whole command line of a kind."""
    given = {override.split("=")[0] for override in kind.options}
    usual = [option for option in workspace.options if option.split("=")[0] not in given]
    recipe = any(option.startswith("objective=tinybert") for option in kind.options)
    left_out = ("trainer.max_epochs",) if recipe else ()
    usual = [option for option in usual if option.split("=")[0] not in left_out]
    return [*usual, *kind.options, f"output_dir={workspace.folder / name}"]


def models(folder: Path) -> dict[str, int]:
    """Return how often each saved model occurs in the finished runs of a folder, by its hash."""
    found: dict[str, int] = {}
    for report in folder.rglob("report.json"):
        for weights in sorted(report.parent.rglob("model.safetensors")):
            if "checkpoints" in weights.parts:
                continue
            key = hashlib.sha256(weights.read_bytes()).hexdigest()
            found[key] = found.get(key, 0) + 1
    return found


def left_behind(process: Process) -> str | None:
    """Return what is wrong if processes of a killed command do not end by themselves."""
    deadline = time.monotonic() + END_TIMEOUT
    while time.monotonic() < deadline:
        if not _members(process.pid):
            return None
        time.sleep(0.2)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return f"processes outlived the killed one by {END_TIMEOUT:.0f} s"


def _members(group: int) -> list[int]:
    """Return the living processes of a group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def killed_and_continued(
    workspace: Workspace,
    kind: Kind,
    name: str,
    seconds: float,
    draw: random.Random,
    ending: Callable[[Outcome], tuple[str, str | None]],
) -> tuple[str, str, str | None]:
    """Kill a command at random moments, and start it again until it ends by itself.

    Args:
        workspace: with its cache emptied before.
        kind: what is killed.
        name: of the output folder.
        seconds: duration of the undisturbed command.
        draw: random numbers.
        ending: says how a command ended, and what is wrong with that.

    Returns:
        The moments of the kills, how the last command ended, and what is wrong.
    """
    overrides = overrides_of(kind, workspace, name)
    shutil.rmtree(workspace.cache, ignore_errors=True)
    moment, moments = draw.uniform(0.05, 0.95) * seconds, []
    for _ in range(draw.randint(1, 2)):
        process = workspace.start(*overrides, program=kind.program)
        time.sleep(moment)
        process.kill()
        process.wait()
        moments.append(f"{moment:.1f}")
        if problem := left_behind(process):
            return ", ".join(moments), "processes left", problem
        moment *= draw.uniform(0.3, 1)
    how, problem = ending(workspace.start(*overrides, program=kind.program).wait())
    return ", ".join(moments), how, problem
