"""Find runs: finished ones with their reports, and all others with the reason."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from distill.core.checksums import DamagedError, check_size, read_checksums
from distill.core.errors import UserError
from distill.reporting.record import ReportError
from distill.reporting.schema import FILE_NAME, Report, Role

# Files whose first line says why a run has no report.
ENDED = {"error.txt": "failed", "stopped.txt": "stopped early"}


@dataclass(frozen=True)
class Run:
    """A finished run: its report, and its resolved config where the folder has one."""

    path: Path
    directory: str  # the path for reading, relative to the parent of what was asked for
    report: Report

    @property
    def name(self) -> str:
        """The name that the run gave itself."""
        return self.report.run.name

    @property
    def seed(self) -> int | None:
        """The seed of its training."""
        return self.report.run.seed

    @property
    def seeds(self) -> frozenset[int | None]:
        """The seeds that its student was trained on."""
        return frozenset(repeat.seed for repeat in self.report.repeats) or frozenset({self.seed})

    @cached_property
    def config(self) -> dict[str, str] | None:
        """The resolved config as ``{"data.limit": "100"}``, None where there is no config.yaml."""
        try:
            content = (self.path / "config.yaml").read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        import yaml  # slow to import, and not needed for reports without a config

        return dict(_leaves(yaml.load(content, getattr(yaml, "CSafeLoader", yaml.SafeLoader))))

    @cached_property
    def overrides(self) -> dict[str, str]:
        """The options that the user typed: ``["student=half", "~control"]`` as a dictionary."""
        pairs = (override.partition("=") for override in self.report.run.overrides)
        return {
            key.lstrip("+~"): "removed" if key.startswith("~") else value.strip("'\"")
            for key, _, value in pairs
        }


@dataclass(frozen=True)
class UnfinishedRun:
    """A run that is not compared, and why."""

    directory: str
    state: str  # "not finished", "failed", "stopped early", "unreadable" or "repeated"
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.directory}: {self.state}" + (f" ({self.reason})" if self.reason else "")


def gather(paths: Sequence[Path | str]) -> tuple[list[Run], list[UnfinishedRun]]:
    """Return all runs in and under ``paths``, each once, in the order of their folders' names.

    A run's folder is one with report.json; one with config.yaml but no report.json is not
    finished; error.txt says why a run failed, stopped.txt why a search stopped it early. Hidden
    folders (``.hydra``) are skipped.

    Raises:
        UserError: A path does not exist.
    """
    roots = []
    for path in map(Path, paths):
        if not path.exists():
            raise UserError(f"there is no {path}: give run folders, sweeps or a folder above them")
        roots.append(path.resolve().parent if path.is_file() else path.resolve())
    base = Path(os.path.commonpath([root.parent for root in roots])) if roots else Path()
    runs: list[Run] = []
    unfinished: list[UnfinishedRun] = []
    for folder, files in _folders(roots):
        directory = folder.relative_to(base).as_posix()
        if FILE_NAME in files:
            try:
                report = Report.read(folder / FILE_NAME)
                _check_models(folder)
                runs.append(Run(folder, directory, report))
            except (ReportError, DamagedError) as error:
                reason = f"{FILE_NAME} {error}" if isinstance(error, ReportError) else str(error)
                unfinished.append(UnfinishedRun(directory, "unreadable", reason))
        elif ended := next((file for file in ENDED if file in files), None):
            lines = (folder / ended).read_text(encoding="utf-8", errors="replace").split("\n")
            reason = next((line.strip() for line in lines if line.strip()), "")
            unfinished.append(UnfinishedRun(directory, ENDED[ended], reason))
        elif "config.yaml" in files:
            unfinished.append(UnfinishedRun(directory, "not finished"))
    return runs, unfinished


def _check_models(folder: Path) -> None:
    """Compare the sizes of a run's models with those that were written; not their content.

    Raises:
        DamagedError: One differs. A model that was removed does no harm.
    """
    for role in (Role.STUDENT, Role.CONTROL):
        for name, expected in (read_checksums(folder / role) or {}).items():
            if os.path.lexists(folder / role / name):
                try:
                    check_size(folder / role / name, expected)
                except DamagedError as damage:
                    raise DamagedError(f"{role} is damaged ({damage})") from damage


def _folders(roots: Iterable[Path]) -> Iterator[tuple[Path, set[str]]]:
    """Yield each folder in and under ``roots`` once, with the names of its files."""
    seen = set()
    for root in roots:
        for name, folders, files in os.walk(root):
            folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
            if name not in seen:
                seen.add(name)
                yield Path(name), set(files)


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield (dotted path, value) of everything in a config; a list counts as one value."""
    if isinstance(node, dict) and node:
        for key, child in node.items():
            yield from _leaves(child, f"{path}.{key}" if path else str(key))
    else:
        yield path, node if isinstance(node, str) else json.dumps(node, default=str)
