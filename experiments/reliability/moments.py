"""Moments at which a process kills itself: each between two things that belong together."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner: Callable[[], Any], name: str, nth: int = 1) -> Callable[[], None]:
    """Return what makes a process die before the nth call of a function."""
    return _patched(owner, name, nth, at_start=True)


def after(owner: Callable[[], Any], name: str, nth: int = 1) -> Callable[[], None]:
    """Return what makes a process die after the nth call of a function."""
    return _patched(owner, name, nth, at_start=False)


def _patched(owner: Callable[[], Any], name: str, nth: int, at_start: bool) -> Callable[[], None]:
    def patch() -> None:
        calls = [0]
        original = getattr(owner(), name)

        def dying(*arguments: Any, **named: Any) -> Any:
            calls[0] += 1
            if at_start and calls[0] == nth:
                _die()
            result = original(*arguments, **named)
            if calls[0] == nth:
                _die()
            return result

        setattr(owner(), name, dying)

    return patch


def renaming(ends: str, nth: int = 1, at_start: bool = True) -> Callable[[], None]:
    """Return what makes a process die before or after the nth renaming to a path of this end."""

    def patch() -> None:
        original, calls = Path.replace, [0]

        def dying(path: Path, target: Any) -> Any:
            hit = str(target).endswith(ends) or ends in str(target)
            calls[0] += hit
            if hit and at_start and calls[0] == nth:
                _die()
            result = original(path, target)
            if hit and calls[0] == nth:
                _die()
            return result

        Path.replace = dying  # type: ignore[method-assign, assignment]

    return patch


def half_written(nth: int) -> Callable[[], None]:
    """Return what makes a process die in the middle of writing its nth file of tensors."""

    def patch() -> None:
        import torch

        original, calls = torch.save, [0]

        def dying(content: Any, file: Any, *arguments: Any, **named: Any) -> Any:
            calls[0] += 1
            original(content, file, *arguments, **named)
            if calls[0] == nth:
                os.truncate(file, Path(file).stat().st_size // 2)
                _die()

        torch.save = dying

    return patch


def _run_directory() -> Any:
    from distill.pipeline.run_directory import RunDirectory

    return RunDirectory


def _reporting() -> Any:
    from distill.reporting import tensorboard

    return tensorboard


def _report() -> Any:
    from distill.reporting.schema import Report

    return Report


def _checksums() -> Any:
    from distill.core import checksums

    return checksums


def _run() -> Any:
    from distill.pipeline import run

    return run


def _training() -> Any:
    from distill.training.callbacks import EpochLogger

    return EpochLogger


# What kills the process, and whether the cache of the run before is kept.
MOMENTS: dict[str, tuple[Callable[[], None], bool]] = {
    "before the prepared data get their name": (renaming("/prepared/"), False),
    "before an encoding gets its name": (renaming("/encoded/", 2), False),
    "before the teacher gets its name": (renaming("/teachers/tinybert-films"), False),
    "after the teacher got its name": (renaming("/teachers/tinybert-films", 1, False), False),
    "before its logits get their name": (renaming("/outputs/"), False),
    "after its logits got their name": (renaming("/outputs/", 1, False), False),
    "in the first epoch": (before(_training, "on_train_epoch_end", 1), True),
    "in the first epoch of the teacher": (before(_training, "on_train_epoch_end", 1), False),
    "in the second epoch of the teacher": (before(_training, "on_train_epoch_end", 2), False),
    "in the third epoch": (before(_training, "on_train_epoch_end", 3), True),
    "while best.ckpt is written": (half_written(1), True),
    "while last.ckpt is written": (half_written(2), True),
    "while the second last.ckpt is written": (half_written(4), True),
    "before last.ckpt is moved to previous.ckpt": (renaming("previous.ckpt"), True),
    "between previous.ckpt and last.ckpt": (renaming("previous.ckpt", 1, False), True),
    "after the second last.ckpt": (renaming("last.ckpt", 2, False), True),
    "after best.ckpt got its name": (renaming("best.ckpt", 1, False), True),
    "before the student is saved": (before(_run_directory, "save_student"), True),
    "before the student gets its name": (renaming("/student"), True),
    "after the student got its name": (renaming("/student", 1, False), True),
    "before the control is copied": (before(_run_directory, "copy_control"), True),
    "before the control gets its name": (renaming("/control"), True),
    "before the models are measured": (before(_run, "evaluate_models"), True),
    "before TensorBoard's last entries": (before(_reporting, "write_final"), True),
    "after TensorBoard's last entries": (after(_reporting, "write_final"), True),
    "before report.json": (before(_report, "write"), True),
}

# Overrides by which a training stops early.
EARLY_STOPS = {
    "stopped early": [
        "trainer.max_epochs=8", "trainer.patience=1", "optimizer.learning_rate=1e-7",
    ],
    "stopped early with a best before": [
        "trainer.max_epochs=9", "trainer.patience=2", "optimizer.learning_rate=2e-2",
    ],
}  # fmt: skip
