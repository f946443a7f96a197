"""What makes a run this one: its settings and its inputs. Only the same run continues in a folder.

Nothing heavy is imported: other settings are refused before torch is.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from distill.config import legacy
from distill.core.errors import UserError

LOCK = ".run.lock"
CONFIG = "config.yaml"
INPUTS = "inputs.json"
REPORT = "report.json"
# Settings that do not change what a run computes.
IRRELEVANT = ("output_dir", "cache_dir", "overrides", "name", "resume", "overwrite", "allow_code")
# What a run leaves: a folder that has one of these without config.yaml is not a new one.
RESULTS = (REPORT, "student", "checkpoints")
# Names of differing options in a message.
SHOWN = 3


class OtherRunError(UserError):
    """The folder holds another run, which stays as it is."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Create a run's folder, and keep other runs out of it.

    Raises:
        OtherRunError: if another run is writing into it.
        UserError: if the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, timeout=0)
        lock.acquire()
    except Timeout as error:
        raise OtherRunError(
            f"output_dir={folder}: another run is writing into it: wait for it, or give another "
            "output_dir"
        ) from error
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"output_dir={folder}: {error.filename} is a file, not a folder") from error
    try:
        yield
    finally:
        lock.release()


def check_same_settings(folder: Path, config: DictConfig) -> None:
    """Refuse a folder that holds a run with other settings.

    Args:
        folder: The run's.
        config: Composed.

    Raises:
        OtherRunError: with the options that differ and the ways out.
    """
    if not (folder / CONFIG).is_file():
        if found := [name for name in RESULTS if (folder / name).exists()]:
            raise OtherRunError(
                f"output_dir={folder}: it holds {found[0]} of something that is no run of distill "
                f"({CONFIG} is missing): give another output_dir"
            )
        return
    different = differing_settings(folder, config)
    if not different:
        return
    listed = ", ".join(
        f"{key}: {before}, now {now}" for key, (before, now) in list(different.items())[:SHOWN]
    )
    more = f", and {len(different) - SHOWN} more" if len(different) > SHOWN else ""
    raise OtherRunError(
        f"output_dir={folder}: it holds a run with other settings ({listed}{more}): give another "
        f"output_dir, {_ways_out(folder)}"
    )


def differing_settings(folder: Path, config: DictConfig) -> dict[str, tuple[str, str]]:
    """Return the settings that matter and differ from a run's: its value and the one given now."""
    if not (folder / CONFIG).is_file():
        return {}
    before = _settings(legacy.update_config(read_config(folder)))
    now = _settings(config)
    return {
        key: (_shown(before, key), _shown(now, key))
        for key in before | now
        if before.get(key, ...) != now.get(key, ...)
    }


def check_same_inputs(folder: Path, inputs: Mapping[str, str]) -> None:
    """Refuse to go on with other data or models than those that a run began with.

    Args:
        folder: The run's.
        inputs: Hash of each input by what it is.

    Raises:
        OtherRunError: with the first input that changed and the ways out.
    """
    if not (folder / INPUTS).is_file():
        return
    try:
        before = json.loads((folder / INPUTS).read_text(encoding="utf-8"))
    except ValueError as error:
        raise OtherRunError(
            f"output_dir={folder}: its {INPUTS} cannot be read: give another output_dir, or "
            "replace the run with overwrite=true"
        ) from error
    for name in dict.fromkeys([*before, *inputs]):
        if before.get(name) != inputs.get(name):
            raise OtherRunError(
                f"output_dir={folder}: {name} changed since this run began: give another "
                "output_dir, or replace the run with overwrite=true"
            )


def read_config(folder: Path) -> DictConfig:
    """Read a run's config.yaml, without what is for Hydra.

    Raises:
        UserError: if it is broken.
    """
    path = folder / CONFIG
    try:
        config = OmegaConf.load(path)
        if not isinstance(config, DictConfig) or "student" not in config:
            raise ValueError("it is no config of a run")
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())[:200]
        raise OtherRunError(
            f"{path} cannot be read ({reason}): give another output_dir, or repair the file"
        ) from error
    config.pop("hydra", None)
    return config


def _ways_out(folder: Path) -> str:
    if (folder / REPORT).is_file():
        return "or replace that run with overwrite=true"
    return f"continue that run with resume={folder}, or replace it with overwrite=true"


def _settings(config: DictConfig) -> dict[str, Any]:
    """Return every setting that matters by its dotted name."""
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return dict(
        _leaves({key: value for key, value in plain.items() if key not in (*IRRELEVANT, "hydra")})
    )


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping) and node:
        for key, child in node.items():
            yield from _leaves(child, f"{path}.{key}" if path else str(key))
    else:
        yield path, node


def _shown(settings: Mapping[str, Any], key: str) -> str:
    if key not in settings:
        return "absent"
    value = settings[key]
    return "null" if value is None else str(value)
