"""Search spaces: options as Hydra names them, each with the values that it may take."""

import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import BaseTrial

from distill.config.error_messages import known_options
from distill.config.validation import unknown_option, validate_config
from distill.core.errors import UserError

log = logging.getLogger(__name__)

Compose = Callable[..., DictConfig]
# The values of categories are the texts of overrides: student=half, student.layers=[0,2].
Distribution = CategoricalDistribution | FloatDistribution | IntDistribution
Space = dict[str, Distribution]

# Settings that must be equal in all trials for their results on validation to be comparable.
SHARED = (
    "task", "data", "seed", "repeats", "control", "output_dir", "cache_dir", "resume", "overwrite",
)  # fmt: skip
MAY_DIFFER = ("data.batch_size", "data.max_length")


def split_overrides(arguments: list[str]) -> tuple[Space, list[str]]:
    """Take the options with several values out of a command line.

    ``a=1,2``, ``a=choice(...)``, ``a=range(...)``, ``a=interval(...)``, with ``int(...)`` and
    ``tag(log, ...)``: Hydra's own grammar, as in a sweep with ``-m``.

    Returns:
        The space that they describe, and the other arguments, for Hydra.
    """
    space: Space = {}
    others = []
    parser = OverridesParser.create()
    for argument in arguments:
        override = None
        if "=" in argument and not argument.startswith("-"):
            with suppress(HydraException):  # Hydra reports it later
                override = parser.parse_override(argument)
        if override is None or not override.is_sweep_override():
            others.append(argument)
        else:
            space[argument.split("=")[0]] = _from_sweep(argument, override)
    return space, others


def read_space(nodes: Mapping[str, Any], typed: Space, fixed: list[str], compose: Compose) -> Space:
    """Return the space of a search.

    Args:
        nodes: ``search.space`` of the config: lists of choices, and ``{low, high, log, step}``.
        typed: Options with several values on the command line; they take precedence.
        fixed: The other overrides of the command line; what they set is not searched.
        compose: Function from overrides to a config.

    Raises:
        UserError: For values that cannot be read and for options that do not exist.
    """
    given = {override.split("=")[0].lstrip("+~") for override in fixed}
    for option in typed:
        if option.lstrip("+") in given:
            raise UserError(f"{option} is given twice on the command line")
    space = {
        option: typed[option] if option in typed else _from_config(option, node)
        for option, node in nodes.items()
        if option not in given
    } | typed
    for option in list(space):
        if option.startswith("+"):
            continue
        if "." not in option and isinstance(space[option], CategoricalDistribution):
            for choice in boundary_values(space[option]):
                compose(f"{option}={choice}")  # raises for a choice that does not exist
        lacking = DictConfig({})
        for context in _contexts(option, space):
            config = compose(*context)
            if has_option(config, option):
                break
            lacking = config
        else:
            if option in typed or option not in known_options():
                raise _unknown_option(option, lacking)
            log.info("not searched: %s, which the chosen configs do not have", option)
            del space[option]
    if not space:
        raise UserError("nothing is searched: give an option several values, student=half,third")
    return space


def _unknown_option(option: str, config: DictConfig) -> UserError:
    parent = option.rpartition(".")[0]
    node = OmegaConf.select(config, parent) if parent else config
    if not isinstance(node, DictConfig):
        return UserError(f"there is no option {option}")
    known = [str(key) for key in node if key != "_target_"]
    return UserError(unknown_option(option, parent, known))


def has_option(config: DictConfig, option: str) -> bool:
    """Return whether an option can be set in a config; ``+option`` adds one that it lacks."""
    parent, _, leaf = option.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    return option.startswith("+") or (isinstance(node, DictConfig) and leaf in list(node))


def check_all(space: Space, compose: Compose) -> None:
    """Check every choice and both ends of every range as the config of a run.

    Raises:
        UserError: For the first value that no run could have, that makes results incomparable, or
            that makes no difference.
    """
    from distill.pipeline.components import RunComponents

    base = _shared_settings(compose(*first_choices(space)))
    for option in space:
        for context in _contexts(option, space):
            if not has_option(compose(*context), option):
                continue
            value_of_run: dict[str, str] = {}
            for value in boundary_values(space[option]):
                override = f"{option}={value}"
                config = compose(*context, override)
                validate_config(config)
                RunComponents.from_config(config)
                if _shared_settings(config) != base:
                    raise UserError(
                        f"{override} cannot be searched over: results would not be comparable"
                    )
                below = [
                    f"{other}={boundary_values(space[other])[0]}"
                    for other in space
                    if other.startswith(f"{option}.") and has_option(config, other)
                ]
                run = str(_plain(compose(*context, override, *below)))
                if run in value_of_run:
                    raise UserError(
                        f"{option}={value_of_run[run]} and {override} are the same run, other "
                        f"options decide: give {option} one value, or leave those out"
                    )
                value_of_run[run] = value


def suggest(trial: BaseTrial, space: Space, compose: Compose) -> list[str]:
    """Draw a trial's overrides: groups first, then the options of the chosen configs."""
    overrides: list[str] = []
    groups = [option for option in space if "." not in option]
    for option in groups:
        overrides.append(_suggest(trial, option, space[option]))
    try:
        config = compose(*overrides)
    except (HydraException, OmegaConfBaseException):
        return overrides  # an impossible combination: the run fails with the reason
    for option in space:
        if option not in groups and has_option(config, option):
            overrides.append(_suggest(trial, option, space[option]))
    return overrides


def combinations(space: Space) -> float:
    """Return the maximum number of different trials; infinite if a range has no steps."""
    total = 1.0
    for distribution in space.values():
        if isinstance(distribution, CategoricalDistribution):
            total *= len(distribution.choices)
        elif distribution.step:
            total *= round((distribution.high - distribution.low) / distribution.step) + 1
        else:
            return float("inf")
    return total


def boundary_values(distribution: Distribution) -> list[str]:
    """Return all choices, or both ends of a range, as they are written in overrides."""
    if isinstance(distribution, CategoricalDistribution):
        return [str(choice) for choice in distribution.choices]
    return [format_value(distribution, value) for value in (distribution.low, distribution.high)]


def format_value(distribution: Distribution, value: Any) -> str:
    """Format a value for an override; real numbers get three significant digits."""
    if not isinstance(distribution, FloatDistribution):
        return str(value)
    rounded = float(f"{value:.6g}" if distribution.step else f"{value:.3g}")
    return f"{min(max(rounded, distribution.low), distribution.high):g}"


def describe(distribution: Distribution) -> str:
    """Describe the values of an option, for the report."""
    if isinstance(distribution, CategoricalDistribution):
        return ", ".join(boundary_values(distribution))
    low, high = boundary_values(distribution)
    steps = f", in steps of {distribution.step:g}" if distribution.step else ""
    return f"{low} to {high}{steps}{', by its logarithm' if distribution.log else ''}"


def _suggest(trial: BaseTrial, option: str, distribution: Distribution) -> str:
    match distribution:
        case CategoricalDistribution():
            value = trial.suggest_categorical(option, distribution.choices)
        case IntDistribution(low=low, high=high, step=step, log=in_log):
            value = trial.suggest_int(option, low, high, step=step, log=in_log)
        case FloatDistribution(low=low, high=high, step=step, log=in_log):
            value = trial.suggest_float(option, low, high, step=step, log=in_log)
    return f"{option}={format_value(distribution, value)}"


def _contexts(option: str, space: Space) -> Iterator[list[str]]:
    """Yield the overrides under which an option is looked up.

    Every choice of its own group, if that is searched, and the first one of the others: what is not
    drawn, such as the default student, need not fit the task.
    """
    group = option.split(".")[0]
    others = first_choices({other: space[other] for other in space if other != group})
    if group != option and group in space:
        yield from ([*others, f"{group}={choice}"] for choice in boundary_values(space[group]))
    else:
        yield others


def first_choices(space: Space) -> list[str]:
    """Return the overrides with the first choice of each group that is searched."""
    return [
        f"{option}={boundary_values(distribution)[0]}"
        for option, distribution in space.items()
        if "." not in option
    ]


def _plain(config: DictConfig) -> dict[str, Any]:
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return {**plain, "overrides": None}


def _shared_settings(config: DictConfig) -> dict[str, Any]:
    plain = _plain(config)
    for option in MAY_DIFFER:
        group, name = option.split(".")
        plain[group].pop(name, None)
    return {name: plain[name] for name in SHARED}


def _from_config(option: str, node: Any) -> Distribution:
    where = f"search.space: {option}"
    if isinstance(node, list) and node:
        choices = [_as_override(value) for value in node]
        if len(set(choices)) < len(choices):
            raise UserError(f"{where}: a choice is given twice in {', '.join(choices)}")
        return CategoricalDistribution(choices)
    if not isinstance(node, Mapping) or not {"low", "high"} <= set(node):
        raise UserError(f"{where}: give a list of choices, or {{low: ..., high: ...}}")
    unknown = set(node) - {"low", "high", "log", "step"}
    if unknown:
        raise UserError(f"{where}: there is no {min(unknown)}: a range has low, high, log, step")
    low, high, step = node["low"], node["high"], node.get("step")
    return _range(where, low, high, step, node.get("log", False))


def _from_sweep(argument: str, override: Override) -> Distribution:
    sweep = override.value()
    if isinstance(sweep, IntervalSweep):
        integers = isinstance(sweep.start, int)
        return _range(argument, sweep.start, sweep.end, None, "log" in sweep.tags, integers)
    if isinstance(sweep, RangeSweep):
        values = sorted(sweep.range())
        if not values:
            raise UserError(f"{argument}: the range is empty")
        step = values[1] - values[0] if len(values) > 1 else 1
        return _range(argument, values[0], values[-1], step, "log" in sweep.tags)
    try:
        return CategoricalDistribution(list(dict.fromkeys(override.sweep_string_iterator())))
    except (HydraException, AssertionError) as error:
        raise UserError(f"{argument}: name the choices one by one") from error


def _range(
    where: str, low: Any, high: Any, step: Any, in_log: Any, integers: bool | None = None
) -> Distribution:
    """Return integers where low, high and step are; real numbers otherwise."""
    numbers = [low, high] + ([] if step is None else [step])
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise UserError(f"{where}: {number} is not a number")
    if not isinstance(in_log, bool):
        raise UserError(f"{where}: log={in_log}: it must be true or false")
    if integers is None:
        integers = step is not None and all(isinstance(number, int) for number in numbers)
    try:
        with warnings.catch_warnings(
            action="error"
        ):  # such as one about a step that does not divide the range
            if integers:
                return IntDistribution(low, high, log=in_log, step=step or 1)
            return FloatDistribution(low, high, log=in_log, step=step)
    except (ValueError, UserWarning) as error:
        raise UserError(f"{where}: {' '.join(str(error).split())}") from error


def _as_override(value: Any) -> str:
    """Return a value of a YAML file as it is written in an override."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(map(_as_override, value))}]"
    if isinstance(value, str) and not re.fullmatch(r"[\w./:+-]+|\[[\w.,\[\]-]*\]", value):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return str(value)
