"""Validate a composed config against the signatures that it will be called with."""

import difflib
import inspect
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from distill.config.environment import check_names
from distill.config.trust import check_targets, check_typed
from distill.core.errors import UserError

GROUPS = ("task", "data", "teacher", "student", "objective", "optimizer", "trainer")
TYPES: Mapping[str, Any] = {
    "seed": int, "repeats": int, "control": bool, "resume": str | None, "overwrite": bool | None,
    "allow_code": list[str] | None, "cache_dir": str, "baselines": list[str] | None,
}  # fmt: skip


LARGEST = 2**63 - 1
"""Largest whole number that an option may have."""
PRETRAINED_TEACHER = "distill.teacher.config.TeacherConfig"
# Options whose empty value would mean the folder that the command is called in.
PATHS = ("cache_dir", "resume", "data.path", "teacher.path", "student.path", "model")


def validate_config(
    config: DictConfig,
    groups: Sequence[str] = GROUPS,
    types: Mapping[str, Any] = TYPES,
    typed: Sequence[str] | None = None,
) -> None:
    """Check the name and type of every option of a run, before anything is loaded.

    Args:
        config: Composed.
        groups: Names of the nodes with a ``_target_``.
        types: Types of options at the top level.
        typed: Overrides as they were typed; ``None``: those in the config.

    Raises:
        UserError: Naming the first option that is missing, unknown or of the wrong type.
    """
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise UserError(f"{missing[0]} has no value: set {missing[0]}=...")
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    if "repeats" in types:
        plain.setdefault("repeats", 1)  # a config.yaml of an earlier version has none
    _validate_top_level(config, {*groups, *types})
    for key, wanted in types.items():
        _validate_type(key, plain.get(key), wanted)
    typed = list(config.get("overrides") or []) if typed is None else typed
    for key in PATHS:
        given = OmegaConf.select(config, key)
        # Other teachers start from random weights.
        needed = key != "teacher.path" or (
            OmegaConf.select(config, "teacher._target_") == PRETRAINED_TEACHER
        )
        if isinstance(given, str) and not given.strip() and needed:
            raise UserError(f"{key} is empty: give a folder{'' if '.' in key else ', or null'}")
    check_names(config)
    allowed = check_typed(config, typed)
    if "seed" in types:
        validate_seed("seed", plain["seed"])
    if "repeats" in types:
        if plain["repeats"] < 1:
            raise UserError(f"repeats={plain['repeats']}: it must be 1 or more")
        validate_seed("seed + repeats - 1", plain["seed"] + plain["repeats"] - 1)
    check_targets("", {key: value for key, value in plain.items() if key != "hydra"}, allowed)
    for group in groups:
        if not isinstance(plain.get(group), Mapping) or "_target_" not in plain[group]:
            raise UserError(f"{group}={plain.get(group)}: it is a group, see distill --help")
        validate_node(group, plain[group])


def _validate_top_level(config: DictConfig, known: set[str]) -> None:
    """Refuse what no part of the program reads: neither an option, nor one that options name."""
    known = known | PROGRAM_OPTIONS
    unknown = [str(key) for key in config if key not in known]
    if not unknown:
        return
    text = OmegaConf.to_yaml(config)
    for key in unknown:
        if re.search(rf"\$\{{{re.escape(key)}[.\[}}]", text):
            continue
        in_groups = [
            group
            for group in sorted(known)
            if isinstance(config.get(group), DictConfig) and key in config[group]
        ]
        if in_groups:
            raise UserError(f"there is no option {key}: did you mean {in_groups[0]}.{key}?")
        raise UserError(unknown_option(key, "", sorted(known - HIDDEN_OPTIONS)))


# Options of the commands that are no groups, and those of them that nobody is to set.
PROGRAM_OPTIONS = frozenset(
    {
        "seed", "repeats", "control", "baselines", "output_dir", "cache_dir", "resume", "overwrite",
        "allow_code", "name", "overrides", "augmentation", "experiment", "debug", "search", "model",
        "labels", "reference",
    }
)  # fmt: skip
HIDDEN_OPTIONS = frozenset({"name", "overrides", "search", "model", "labels", "reference"})


def validate_seed(option: str, seed: int) -> None:
    """Refuse a seed that the random generators do not accept.

    Raises:
        UserError: Naming the option.
    """
    if not 0 <= seed < 2**31:  # generators accept 2^32; stages and processes add to the seed
        raise UserError(f"{option}={seed}: it must be 0 or above, and below 2147483648")


def validate_node(path: str, node: Mapping[str, Any]) -> None:
    """Match a node with a ``_target_``, and those below it, against their classes' signatures.

    Args:
        path: The node's place in the config, for messages.
        node: Plain values.

    Raises:
        UserError: Naming the first option that is missing, unknown or of the wrong type.
    """
    _validate_children(path, node)
    target = node["_target_"]
    try:
        called = get_object(target)
    except Exception as error:  # hydra wraps whatever the import raises
        raise UserError(f"{path}._target_={target} cannot be imported: {error}") from error
    if inspect.isabstract(called):
        raise UserError(f"{path}._target_={target} is an abstract class: choose a subclass")
    try:
        signature = inspect.signature(called)
    except ValueError as error:
        raise UserError(f"{path}._target_={target}: {error}") from error
    hints = typing.get_type_hints(called.__init__ if inspect.isclass(called) else called)
    open_ended = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    for key, value in node.items():
        if key in ("_target_", "_convert_"):
            continue
        if key in signature.parameters:
            if not (isinstance(value, Mapping) and "_target_" in value):
                _validate_type(f"{path}.{key}", value, hints.get(key, Any))
        elif not open_ended:
            raise UserError(unknown_option(f"{path}.{key}", path, signature.parameters))
    for name, parameter in signature.parameters.items():
        required = parameter.default is parameter.empty and parameter.kind in (
            parameter.KEYWORD_ONLY,
            parameter.POSITIONAL_OR_KEYWORD,
        )
        if required and name not in node:
            raise UserError(f"{path}.{name} has no value: set {path}.{name}=...")


def _validate_children(path: str, node: Any) -> None:
    """Validate the nodes with a ``_target_`` below a node."""
    for key, value in node.items() if isinstance(node, Mapping) else enumerate(node):
        if isinstance(value, Mapping) and "_target_" in value:
            validate_node(f"{path}.{key}", value)
        elif isinstance(value, Mapping | list):
            _validate_children(f"{path}.{key}", value)


def unknown_option(option: str, path: str, known: typing.Iterable[str]) -> str:
    """Return the message for an option that does not exist, with the nearest one that does.

    Args:
        option: The whole option.
        path: The node that lacks it; empty for the top level.
        known: Names of the options of that node.
    """
    known = list(known)
    close = difflib.get_close_matches(option.rsplit(".", 1)[-1], known, 1, cutoff=0.5)
    where = f"{path}." if path else ""
    if close:
        return f"there is no option {option}: did you mean {where}{close[0]}?"
    return f"there is no option {option}: {path or 'the top level'} has {', '.join(known)}"


def _validate_type(option: str, value: Any, wanted: Any) -> None:
    if not _matches_type(value, wanted):
        raise UserError(f"{option}={value}: it must be {_describe_type(wanted)}")


def _matches_type(value: Any, wanted: Any) -> bool:
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if wanted is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_matches_type(value, option) for option in arguments)
    if origin is typing.Literal:
        return value in arguments and type(value) in {type(option) for option in arguments}
    if origin in (list, tuple):
        elements = [argument for argument in arguments if argument is not Ellipsis]
        return isinstance(value, list) and all(
            any(_matches_type(item, element) for element in elements) for item in value
        )
    if origin is dict:
        return isinstance(value, Mapping) and all(
            _matches_type(key, arguments[0]) and _matches_type(item, arguments[1])
            for key, item in value.items()
        )
    if wanted is None or wanted is type(None):
        return value is None
    if wanted is float:
        return (
            isinstance(value, float | int) and not isinstance(value, bool) and math.isfinite(value)
        )
    if wanted is int:
        # What is larger fits into no array index, and would be found much later.
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST
    return not isinstance(wanted, type) or isinstance(value, wanted)


def _describe_type(wanted: Any) -> str:
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_describe_type(option) for option in arguments)
    if origin is typing.Literal:
        return " or ".join(str(option).lower() for option in arguments)
    if origin in (list, tuple):
        return f"a list of {_describe_type(arguments[0])}" if arguments else "a list"
    if origin is dict:
        return "a mapping"
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    return words.get(
        wanted, "null" if wanted in (None, type(None)) else getattr(wanted, "__name__", str(wanted))
    )
