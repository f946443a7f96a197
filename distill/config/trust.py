"""What a config file may ask for: it is data, wherever it comes from.

Hydra makes an object of whatever a ``_target_`` names, and the config.yaml of somebody else's run,
an experiment or a file found by ``--config-dir`` may name ``os.system``. Only the classes that
options are made of are used without asking. Those of another package need ``allow_code=[PACKAGE]``
on the command line itself: what a file says does not count.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from distill.core.errors import UserError

# Packages whose loggers and callbacks may be named without asking.
TRUSTED = ("pytorch_lightning", "lightning", "distill")
# Where the classes of this program's options are, and the one function among them.
OPTION_CLASSES = (
    "distill.data.", "distill.objectives.", "distill.search.", "distill.student.", "distill.tasks.",
    "distill.teacher.", "distill.training.optimizer", "distill.training.trainer",
)  # fmt: skip
OPTION_FUNCTION = "distill.core.hardware.resolve_hardware"
# Options that count on the command line alone.
TYPED_ONLY = ("allow_code", "overwrite")

_HYDRA_TARGETS = frozenset(
    {
        "distill.cli.sweep.SweepReport",
        "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
        "hydra._internal.core_plugins.basic_sweeper.BasicSweeper",
        "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
        "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher",
        "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher",
    }
)
_LOG_CLASSES = frozenset({"logging.StreamHandler", "logging.FileHandler", "logging.NullHandler"})
_FORMATTER = "distill.core.terminal.PrintableFormatter"
_LOG_STREAMS = ("ext://sys.stdout", "ext://sys.stderr")
_LOG_FILES = frozenset(
    {
        "${hydra.runtime.output_dir}/run.log",
        "${hydra.runtime.output_dir}/${hydra.job.name}.log",
    }
)
# How folders begin that this program's files name, and those that are Hydra's own defaults.
_FOLDERS = (
    "${run_dir:", "${evaluation_dir:", "${search_dir:", "${sweep_dir:", "outputs/${now:",
    "multirun/${now:",
)  # fmt: skip


def typed_options(overrides: Sequence[str]) -> dict[str, Any]:
    """Return which of :data:`TYPED_ONLY` the command line itself gives, with their values."""
    found = {}
    for override in overrides:
        name = override.lstrip("+~").partition("=")[0]
        if name in TYPED_ONLY:
            try:
                found[name] = OverridesParser.create().parse_override(override).value()
            except HydraException:  # reported when the options are composed
                continue
    return found


def check_typed(config: DictConfig, overrides: Sequence[str]) -> list[str]:
    """Return the packages whose code the command allows.

    Args:
        config: composed.
        overrides: as they were typed.

    Raises:
        UserError: for an option that a file gives and that only the command line may give.
    """
    typed = typed_options(overrides)
    for name in TYPED_ONLY:
        value = config.get(name)
        if value and name not in typed:
            given = list(value) if name == "allow_code" and not isinstance(value, str) else value
            shown = f"[{', '.join(map(str, given))}]" if isinstance(given, list) else str(value)
            raise UserError(
                f"{name}={shown.lower() if value is True else shown} stands in a file: it counts "
                "only on the command line, repeat it there if you trust the file"
            )
    allowed = typed.get("allow_code") or []
    return [str(one) for one in allowed] if isinstance(allowed, list) else []


def check_targets(path: str, node: Any, allowed: Sequence[str] = ()) -> None:
    """Refuse what would be called below a node, unless it is a class that may be named.

    What a name leads to counts, not the name: a module's attributes may come from anywhere.
    Nothing of another package is imported to find out.

    Args:
        path: the node's place in the config; empty for the whole.
        node: plain values.
        allowed: packages that the command line allows.

    Raises:
        UserError: naming the first one.
    """
    if isinstance(node, Mapping):
        if "_target_" in node:
            _check_target(path, str(node["_target_"]), allowed)
        children = [(str(key), value) for key, value in node.items()]
    elif isinstance(node, list | tuple):
        children = [(str(index), value) for index, value in enumerate(node)]
    else:
        return
    for key, value in children:
        check_targets(f"{path}.{key}" if path else key, value, allowed)


def _check_target(path: str, target: str, allowed: Sequence[str]) -> None:
    root = target.split(".")[0]
    called, package = None, root
    if root in (*TRUSTED, *allowed):
        try:
            called = get_object(target)
        except Exception as error:  # hydra wraps whatever the import raises
            raise UserError(f"{path}._target_={target} cannot be imported: {error}") from error
        package = str(getattr(called, "__module__", None)).split(".")[0]
    if called is not None and package in (*TRUSTED, *allowed):
        is_class = inspect.isclass(called)
        if package != "distill" or package in allowed:
            is_option = is_class
        else:
            place = f"{called.__module__}.{called.__qualname__}"
            is_option = (is_class and place.startswith(OPTION_CLASSES)) or place == OPTION_FUNCTION
        if is_option:
            return
    if package == "distill" and called is not None:
        raise UserError(f"{path}._target_={target}: it is no class of an option")
    raise UserError(
        f"{path}._target_={target}: only classes of {', '.join(TRUSTED)} are used without asking; "
        f"allow_code=[{root}] allows those of another package"
    )


@contextmanager
def hydra_node_checked() -> Iterator[None]:
    """Check the node ``hydra`` of whatever is composed within, before Hydra acts on it."""
    original = ConfigLoaderImpl.load_configuration

    def load(self: ConfigLoaderImpl, *arguments: Any, **named: Any) -> DictConfig:
        config = original(self, *arguments, **named)
        if "hydra" in config:
            check_hydra_node(OmegaConf.to_container(config, resolve=False))
        return config

    ConfigLoaderImpl.load_configuration = load  # type: ignore[method-assign]
    try:
        yield
    finally:
        ConfigLoaderImpl.load_configuration = original  # type: ignore[method-assign]


def check_hydra_node(config: Any) -> None:
    """Refuse callbacks, launchers, log handlers and folders that no file of this program names.

    Args:
        config: plain values with their interpolations, the node ``hydra`` among them.

    Raises:
        UserError: naming the first one.
    """
    hydra = config["hydra"]
    typed = [
        str(override).lstrip("+~").partition("=")[0]
        for kind in ("hydra", "task")
        for override in (hydra.get("overrides") or {}).get(kind) or []
    ]
    for place, target in _targets("hydra", hydra):
        if target not in _HYDRA_TARGETS:
            raise UserError(f"{place}._target_={target}: no config may name it")
    for kind in ("job_logging", "hydra_logging"):
        _check_logging(f"hydra.{kind}", hydra.get(kind) or {})
    for option, given in (
        ("hydra.run.dir", (hydra.get("run") or {}).get("dir")),
        ("hydra.sweep.dir", (hydra.get("sweep") or {}).get("dir")),
    ):
        if option not in typed and not _is_own(str(given), _FOLDERS):
            raise UserError(f"{option}={given} stands in a file: name the folder by output_dir=...")
    subdir = (hydra.get("sweep") or {}).get("subdir")
    if "hydra.sweep.subdir" not in typed and not _is_own(str(subdir), ("${job_dir:", "${hydra.")):
        raise UserError(f"hydra.sweep.subdir={subdir} stands in a file: leave it out")


def _is_own(folder: str, beginnings: tuple[str, ...]) -> bool:
    return folder.startswith(beginnings) and ".." not in folder


def _targets(path: str, node: Any) -> Iterator[tuple[str, str]]:
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield path, str(node["_target_"])
        for key, value in node.items():
            yield from _targets(f"{path}.{key}", value)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _targets(f"{path}.{index}", value)


def _check_logging(path: str, node: Any) -> None:
    """Refuse classes and files that Python's logging would make of a config."""
    if not isinstance(node, Mapping):
        return
    for key, value in node.items():
        where = f"{path}.{key}"
        if key == "()" and value != _FORMATTER:
            raise UserError(f"{where}={value}: no config may name it")
        if key == "class" and value not in (*_LOG_CLASSES, _FORMATTER):
            raise UserError(f"{where}={value}: no config may name it")
        if key == "filename" and value not in _LOG_FILES:
            raise UserError(f"{where}={value}: the log belongs into the run's folder")
        if str(value).startswith(("ext://", "cfg://")) and value not in _LOG_STREAMS:
            raise UserError(f"{where}={value}: no config may name it")
        _check_logging(where, value)
