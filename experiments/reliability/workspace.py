"""A tiny teacher and tiny data, and commands in processes of their own, which may be killed.

A process is a copy (fork) of this one, in which everything is imported already: a run of the tiny
models then takes seconds, and what it does to itself ends with it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from distill.cli.distill import DistillCommand
from distill.cli.sweep import exit_code
from tests.factories import BAD, FILLER, GOOD, make_tokenizer, sentences, write_csv

# What must be equal to the bit whatever happens on the way.
KEPT = ("student/model.safetensors", "control/model.safetensors")


@dataclass
class Outcome:
    """How a command ended.

    Attributes:
        code: its exit code; negative: the signal that ended the process.
        out: what it wrote to standard output.
        err: what it wrote to standard error.
        seconds: wall time.
    """

    code: int
    out: str
    err: str
    seconds: float

    @property
    def has_traceback(self) -> bool:
        """Whether a traceback was shown."""
        return "Traceback (most recent call last)" in self.out + self.err


class Process:
    """A function in a forked process.

    Args:
        function: returns the exit code.
        folder: for its output.
    """

    number = 0

    def __init__(self, function: Callable[[], int | None], folder: Path) -> None:
        Process.number += 1
        self.files = [folder / f"{Process.number}.{name}" for name in ("out", "err")]
        self.started = time.monotonic()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._run(function)

    def _run(self, function: Callable[[], int | None]) -> None:
        code = 1
        try:
            os.setpgid(0, 0)
            for file, descriptor in zip(self.files, (1, 2), strict=True):
                os.dup2(os.open(file, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644), descriptor)
            sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
            sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
            torch.set_num_threads(1)
            code = int(function() or 0)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal, if the process still runs."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def is_running(self) -> bool:
        """Return whether the process still runs; its exit is left for :meth:`wait`."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def wait(self) -> Outcome:
        """Wait for its end."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        out, err = (file.read_text(errors="replace") for file in self.files)
        return Outcome(code, out, err, time.monotonic() - self.started)


class Workspace:
    """Data, a teacher and a cache below one folder.

    Args:
        folder: made if it is not there.
        cache: of the commands; ``None``: a folder beside the data.
    """

    def __init__(self, folder: Path, cache: Path | None = None) -> None:
        self.folder, self.cache = folder, cache or folder / "cache"
        self.log = folder / "log"
        self.log.mkdir(parents=True, exist_ok=True)
        self.data, self.teacher = folder / "films", folder / "tinybert"
        if not self.data.exists():
            for split, count, seed in (("train", 160, 1), ("validation", 40, 2), ("test", 50, 3)):
                write_csv(self.data / f"{split}.csv", sentences(count, seed))
            write_csv(folder / "more.csv", [{"text": row["text"]} for row in sentences(120, 9)])
            self._save_teacher()

    def _save_teacher(self) -> None:
        from transformers import BertConfig, BertForMaskedLM

        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=32, hidden_size=32, num_hidden_layers=4, num_attention_heads=2,
            intermediate_size=64, max_position_embeddings=64,
        )  # fmt: skip
        BertForMaskedLM(config).save_pretrained(self.teacher)
        make_tokenizer(FILLER + GOOD + BAD).save_pretrained(self.teacher)

    @property
    def options(self) -> list[str]:
        """Overrides of a run that takes seconds."""
        return [
            "data=files", f"data.path={self.data}", f"teacher.path={self.teacher}",
            f"cache_dir={self.cache}", "data.max_length=24", "trainer.max_epochs=3",
            "teacher.epochs=3", "teacher.learning_rate=3e-3", "optimizer.learning_rate=3e-3",
            "trainer.precision=32-true", "trainer.accelerator=cpu", "student=half",
        ]  # fmt: skip

    def start(
        self,
        *overrides: str,
        before: Callable[[], Any] | None = None,
        program: str = "distill",
    ) -> Process:
        """Start a command with overrides; ``before`` is called in its process."""

        def command() -> int:
            from distill.evaluation import speed

            speed.EXAMPLES, speed.ROUNDS = 4, 1  # nobody reads the latencies
            if before is not None:
                before()
            sys.argv = [program, *overrides]
            if program == "distill-search":
                from distill.cli.search import SearchCommand

                return SearchCommand().execute(overrides)
            return DistillCommand().execute(overrides) or exit_code()

        return Process(command, self.log)

    def run(self, name: str, *overrides: str, before: Callable[[], Any] | None = None) -> Outcome:
        """Run the command to its end, in the folder of a name."""
        output = f"output_dir={self.folder / name}"
        return self.start(*self.options, output, *overrides, before=before).wait()

    def result(self, name: str) -> dict[str, Any]:
        """Return what must not change: hashes of the models, and the measured quality."""
        folder = self.folder / name
        hashes = {
            file: hashlib.sha256((folder / file).read_bytes()).hexdigest()
            for file in KEPT
            if (folder / file).exists()
        }
        report = json.loads((folder / "report.json").read_text())
        quality = [(model["role"], model["quality"]) for model in report["models"]]
        return {
            "files": hashes,
            "quality": quality,
            "words": [model["quality"] for model in report.get("baselines", [])],
        }

    def forget(self, *names: str) -> None:
        """Remove folders of runs."""
        for name in names:
            shutil.rmtree(self.folder / name, ignore_errors=True)


def points_twice(folder: Path) -> list[str]:
    """Return the tags of a run's TensorBoard curves that have two points of a step."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    found = []
    for tag in events.Tags()["scalars"]:
        steps = [point.step for point in events.Scalars(tag)]
        if len(set(steps)) < len(steps):
            found.append(tag)
    return found


def missing_points(folder: Path, reference: Path) -> list[str]:
    """Return the tags whose points are other ones than in an undisturbed run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curves: list[dict[str, Sequence[int]]] = []
    for one in (folder, reference):
        events = EventAccumulator(str(one), size_guidance={"scalars": 0})
        events.Reload()
        curves.append(
            {
                tag: [point.step for point in events.Scalars(tag)]
                for tag in events.Tags()["scalars"]
                if not tag.startswith(("final/", "measures/"))
            }
        )
    first, second = curves
    return sorted(tag for tag in first | second if first.get(tag) != second.get(tag))
