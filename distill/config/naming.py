"""Short readable names of runs, for folders and TensorBoard."""

import itertools
import os
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

# Environment variable with the options that a sweep varies, also for jobs in other processes.
SWEPT = "DISTILL_SWEPT"

ABBREVIATIONS = {"learning_rate": "lr", "temperature": "T", "max_epochs": "epochs"}
MAX_LENGTH = 80
# Names of files that say what is in them, but not of which data.
_SPLIT_NAMES = frozenset({"train", "training", "validation", "valid", "val", "dev", "test", "eval"})


def run_dir(output_dir: str | None, resume: str | None, name: str) -> str:
    """Return the folder of a single run: the given one, or a new one below runs/."""
    return output_dir or resume or _new_folder(f"runs/{_safe(name)}-{_now()}")


def evaluation_dir(output_dir: str | None, name: str) -> str:
    """Return the folder of an evaluation: the given one, or a new one below runs/."""
    return output_dir or _new_folder(f"runs/evaluate-{_safe(name)}-{_now()}")


def sweep_dir(output_dir: str | None) -> str:
    """Return the folder of a sweep."""
    return output_dir or _new_folder(f"runs/sweep-{_now()}")


def search_dir(output_dir: str | None, name: str) -> str:
    """Return the folder of a search; without the time, because the same command continues it."""
    return output_dir or f"runs/search-{_safe(name)}"


def job_dir(number: int, overrides: Sequence[str]) -> str:
    """Return the folder of a sweep's run: its number, and the options that the sweep varies."""
    return f"{int(number):02d}-{run_name(overrides)}"


def teacher_path(teacher: Mapping[str, Any]) -> str:
    """Return the path of the teacher, or of the first of several."""
    if "path" in teacher:
        return str(teacher["path"])
    paths = teacher["paths"]
    return str(next(iter(paths.values() if isinstance(paths, Mapping) else paths)))


def path_name(path: str | Mapping[str, str]) -> str:
    """Return the name of data or of a model: the end of the path.

    Of several files, or of one that is called like a split (``train.csv``), the name of their
    folder; where files of several folders have none in common, that of the training file.
    """
    if isinstance(path, Mapping):
        paths = [str(file) for file in path.values()]
        folders = {file.rpartition("/")[0].rstrip("/") for file in paths}
        common = folders.pop() if len(folders) == 1 and len(paths) > 1 else ""
        if len(folders) > 1 and all("/" in file for file in paths):
            common = os.path.commonpath([file.rpartition("/")[0] for file in paths])
        path = common if _is_name(common) else str(path.get("train", paths[0]))
    folder, _, last = str(path).rstrip("/").rpartition("/")
    stem = last.split(".")[0] or last
    parent = folder.rstrip("/").rpartition("/")[-1]
    if "." in last and stem.lower() in _SPLIT_NAMES and _is_name(parent):
        return parent
    return stem


def _is_name(folder: str) -> bool:
    """Return whether a folder has a name of its own, unlike ``.`` and ``~``."""
    return folder.rpartition("/")[-1] not in ("", ".", "..", "~")


def layers_name(layers: object) -> str:
    """Return a student's name: ``half`` as it is, ``layers-0-2-4`` for ``[0, 2, 4]``.

    What is neither is refused later, by its own name.
    """
    if isinstance(layers, str) or not isinstance(layers, Sequence):
        return str(layers)
    return "layers-" + "-".join(map(str, layers))


def _now() -> str:
    return datetime.now().strftime("%m%d-%H%M%S")


def _new_folder(name: str) -> str:
    """Make a folder and return its name; with a number where one was made in the same second.

    Making it is what keeps two processes apart that ask at the same time.
    """
    for number in itertools.count(1):
        folder = Path(name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if folder.exists():
                continue
            break  # one of the folders above is a file, which is refused later
        except OSError:
            break
        return str(folder)
    return name


def _safe(name: str) -> str:
    return re.sub(r"[^\w.+,=-]+", "-", name)[:MAX_LENGTH]


def run_name(overrides: Sequence[str]) -> str:
    """Return a run's name from its overrides.

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
    return _safe("-".join(parts)) or "run"


def _part(key: str, value: str) -> str:
    value = value.strip("\"'").rstrip("/").split("/")[-1]
    value = re.sub(r"[^\w.+,=-]+", "", value.replace(", ", ",")) or "none"
    if "." not in key and key != "seed":
        return value  # the choice of a group says which group
    last = key.split(".")[-1]
    if last == "weight":
        last = ".".join(key.split(".")[-2:])
    return f"{ABBREVIATIONS.get(last, last)}={value}"
