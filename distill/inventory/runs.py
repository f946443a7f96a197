"""Run folders: what each holds, and whether it is what was written."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from distill.core.cache import USED
from distill.core.checksums import CHECKSUMS, DamagedError, check_folder
from distill.core.errors import UserError
from distill.inventory.entries import folder_bytes, is_run

# Subfolders of a run that are no models.
NO_MODELS = ("checkpoints", "repeats")


@dataclass
class RunFolder:
    """One run.

    Attributes:
        path: its folder.
        bytes: size of all files.
        changed: when its report, or its config, was written, in seconds since the epoch.
        state: ``finished``, ``failed``, ``stopped early`` or ``not finished``.
        models: bytes of each saved model and exported form, by path within the run.
        damage: what verification found, by folder within the run; ``None``: not verified.
    """

    path: Path
    bytes: int
    changed: float
    state: str
    models: dict[str, int] = field(default_factory=dict)
    damage: dict[str, str] | None = None

    @property
    def is_silent(self) -> bool:
        """Whether it is of an earlier version, which did not write down what it uses."""
        return not (self.path / USED).is_file()

    def verify(self) -> None:
        """Compare all files that have checksums with them, and read the report."""
        self.damage = {}
        for file in sorted(self.path.rglob(CHECKSUMS)):
            where = str(file.parent.relative_to(self.path))
            try:
                check_folder(file.parent)
            except (DamagedError, OSError) as damage:
                self.damage[where] = " ".join(str(damage).split())
        report = self.path / "report.json"
        if report.exists() and "." not in self.damage:
            try:
                json.loads(report.read_text(encoding="utf-8"))
            except (OSError, ValueError) as damage:
                self.damage["."] = f"report.json: {' '.join(str(damage).split())}"


def find_runs(paths: Sequence[Path]) -> list[RunFolder]:
    """Return the runs in and under some folders, each once.

    Raises:
        UserError: a path is no folder.
    """
    found: dict[Path, RunFolder] = {}
    for path in paths:
        if not path.is_dir():
            raise UserError(f"{path}: there is no such folder")
        for folder in _walk(path):
            found.setdefault(folder.resolve(), _run(folder))
    return [found[key] for key in sorted(found)]


def _walk(folder: Path) -> list[Path]:
    """Return the outermost folders that are runs."""
    if is_run(folder):
        return [folder]
    below = sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    return [run for path in below for run in _walk(path)]


def _run(folder: Path) -> RunFolder:
    state = "not finished"
    for name, said in (
        ("report.json", "finished"), ("error.txt", "failed"), ("stopped.txt", "stopped early")
    ):  # fmt: skip
        if (folder / name).is_file():
            state = said
            break
    files = [file for file in (folder / "report.json", folder / "config.yaml") if file.is_file()]
    models = {}
    for path in sorted(folder.rglob("config.json")):
        name = str(path.parent.relative_to(folder))
        if not name.startswith(NO_MODELS):
            models[name] = folder_bytes(path.parent)
    return RunFolder(folder, folder_bytes(folder), files[0].stat().st_mtime, state, models)
