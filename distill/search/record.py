"""What a search's folder says about the search in it: only the same search is continued there."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from distill.config import legacy
from distill.config.environment import resolve_for_writing
from distill.core.errors import UserError
from distill.search.space import Space, describe

RECORD = "search.yaml"
LOCK = ".search.lock"
# Files that are written before anything is run.
UNTOUCHED = frozenset({"run.log", LOCK})
# Settings of a search that may change when it is continued.
BUDGET = ("trials", "minutes", "control", "at_least", "finalists")
# Settings of a run that do not make it another search.
IRRELEVANT = ("output_dir", "cache_dir", "overrides", "name", "overwrite")


def describe_search(base: DictConfig, settings: DictConfig, space: Space) -> dict[str, Any]:
    """Return everything that makes a search this one, as plain values.

    Args:
        base: Config of a run before anything is drawn.
        settings: The node ``search``.
        space: What is searched.
    """
    search = OmegaConf.to_container(settings, resolve=True)
    assert isinstance(search, dict)
    run = resolve_for_writing(base)
    left_out = (*BUDGET, "_target_", "space")
    return {
        "search": {key: value for key, value in search.items() if key not in left_out},
        "space": {option: describe(distribution) for option, distribution in space.items()},
        "run": {key: value for key, value in run.items() if key not in IRRELEVANT},
    }


def write_record(folder: Path, search: dict[str, Any]) -> None:
    """Write what :func:`describe_search` returns into the search's folder."""
    OmegaConf.save(OmegaConf.create(search), folder / RECORD)


def has_record(folder: Path, search: dict[str, Any]) -> bool:
    """Return whether a folder holds this search; ``False`` if it holds none.

    Raises:
        UserError: If it holds another search, or something else.
    """
    record = folder / RECORD
    if not record.is_file():
        if {path.name for path in folder.iterdir()} - UNTOUCHED:
            raise UserError(f"output_dir={folder}: it holds something that is no search")
        return False
    try:
        loaded = OmegaConf.load(record)
        assert isinstance(loaded, DictConfig)
        recorded = OmegaConf.to_container(legacy.update_config(loaded))
        assert isinstance(recorded, dict)
        before = dict(_leaves({part: recorded[part] for part in search}))
    except (
        OSError, ValueError, KeyError, AssertionError, YAMLError, OmegaConfBaseException,
    ) as error:  # fmt: skip
        raise damaged(record) from error
    now = dict(_leaves(search))
    option = next((key for key in before | now if before.get(key) != now.get(key)), None)
    if option is None:
        return True
    if option.startswith("examples."):
        raise UserError(f"{folder}: the data have changed since this search began")
    raise UserError(
        f"{folder} holds a search with {option}={before.get(option)}, not {now.get(option)}: "
        "repeat its command to continue it, or give output_dir=FOLDER for another search"
    )


def damaged(file: Path) -> UserError:
    """Return the error for a file of a search that cannot be read."""
    return UserError(
        f"{file} is damaged: give another output_dir, or repair the file (the runs beside it are "
        "whole)"
    )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Create a search's folder and keep other searches out of it.

    Raises:
        UserError: If another search runs in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / LOCK, timeout=0):
            yield
    except Timeout as error:
        raise UserError(f"another distill-search is running in {folder}") from error


def remove_if_untouched(folder: Path) -> None:
    """Remove a folder in which nothing was run, after a mistake that was found before."""
    if folder.is_dir() and {path.name for path in folder.iterdir()} <= UNTOUCHED:
        shutil.rmtree(folder)


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(node, dict):
        yield path.removeprefix("run."), node
    else:
        for key, child in node.items():
            yield from _leaves(child, f"{path}.{key}" if path else key)
