"""Short, telling names for runs: what a folder is called and TensorBoard shows."""

import os
import re
from collections.abc import Mapping, Sequence
from datetime import datetime

# Which options a sweep varies, set when it starts (also for jobs in other processes).
SWEPT = "DISTILL_SWEPT"

SHORT = {"learning_rate": "lr", "temperature": "T", "max_epochs": "epochs"}
LONGEST = 80


def run_dir(output_dir: str | None, resume: str | None, name: str) -> str:
    """A single run's folder: the one that was asked for, or a new one below runs/."""
    return output_dir or resume or f"runs/{_safe(name)}-{_now()}"


def sweep_dir(output_dir: str | None) -> str:
    """A sweep's folder."""
    return output_dir or f"runs/sweep-{_now()}"


def search_dir(output_dir: str | None, name: str) -> str:
    """A search's folder: without the time, for the same command continues it."""
    return output_dir or f"runs/search-{_safe(name)}"


def job_dir(number: int, overrides: Sequence[str]) -> str:
    """A sweep's run below the sweep's folder: in order, and by what is special about it."""
    return f"{int(number):02d}-{run_name(overrides)}"


def teacher_path(teacher: Mapping) -> str:
    """The teacher's path; of several teachers the first one's."""
    if "path" in teacher:
        return teacher["path"]
    paths = teacher["paths"]
    return next(iter(paths.values() if isinstance(paths, Mapping) else paths))


def path_name(path: str | Mapping[str, str]) -> str:
    """What data or a model are called: the end of their path."""
    if isinstance(path, Mapping):
        path = next(iter(path.values()))
    last = path.rstrip("/").split("/")[-1]
    return last.split(".")[0] or last


def layers_name(layers: str | Sequence[int]) -> str:
    """``half`` stays, ``[0, 2, 4]`` becomes ``layers-0-2-4``."""
    if isinstance(layers, str):
        return layers
    return "layers-" + "-".join(map(str, layers))


def _now() -> str:
    return datetime.now().strftime("%m%d-%H%M%S")


def _safe(name: str) -> str:
    return re.sub(r"[^\w.+,=-]+", "-", name)[:LONGEST]


def run_name(overrides: Sequence[str]) -> str:
    """A name from Hydra overrides.

    In a sweep, only what the sweep varies: ``student=third objective.soft_targets.temperature=4``
    gives ``third-T=4``. Weights keep their term: ``soft_targets.weight=0.5``.
    """
    swept = os.environ.get(SWEPT)
    wanted = None if swept is None else set(swept.split(","))
    parts = []
    for override in overrides:
        key, _, value = override.partition("=")
        key = key.lstrip("+~")
        if wanted is None or key in wanted:
            parts.append(_part(key, value))
    return "-".join(parts)[:LONGEST] or "run"


def _part(key: str, value: str) -> str:
    value = value.strip("\"'").rstrip("/").split("/")[-1]
    value = re.sub(r"[^\w.+,=-]+", "", value.replace(", ", ",")) or "none"
    if "." not in key and key != "seed":
        return value  # a choice of a group names itself
    last = key.split(".")[-1]
    if last == "weight":
        last = ".".join(key.split(".")[-2:])
    return f"{SHORT.get(last, last)}={value}"
