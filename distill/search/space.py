"""What a search is over: options in Hydra's terms, each with the values it may take."""

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
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from distill.config.error_messages import known_options
from distill.config.validation import unknown_option, validate_config
from distill.core.errors import UserError

log = logging.getLogger(__name__)

Compose = Callable[..., DictConfig]
# The values of categories are the texts of overrides: student=half, student.layers=[0,2].
Space = dict[str, BaseDistribution]

# What must be the same in all trials for their results on validation to be comparable.
SAME = ("task", "data", "seed", "control", "output_dir", "cache_dir", "resume")
MAY_DIFFER = ("data.batch_size", "data.max_length")


def split(arguments: list[str]) -> tuple[Space, list[str]]:
    """Take the options with several values out of a command line.

    ``a=1,2``, ``a=choice(...)``, ``a=range(...)``, ``a=interval(...)``, with ``int(...)`` and
    ``tag(log, ...)``: Hydra's own grammar, as in a sweep with ``-m``.

    Returns:
        What they say is searched, and the other arguments, for Hydra.
    """
    space: Space = {}
    others = []
    parser = OverridesParser.create()
    for argument in arguments:
        override = None
        if "=" in argument and not argument.startswith("-"):
            with suppress(HydraException):  # Hydra will say what is wrong with it
                override = parser.parse_override(argument)
        if override is None or not override.is_sweep_override():
            others.append(argument)
        else:
            space[argument.split("=")[0]] = _from_sweep(argument, override)
    return space, others


def read(nodes: Mapping[str, Any], typed: Space, fixed: list[str], compose: Compose) -> Space:
    """The space of a search.

    Args:
        nodes: ``search.space`` of the config: lists of choices, and ``{low, high, log, step}``.
        typed: what has several values on the command line; it replaces what the config says.
        fixed: the other overrides of the command line; what they set is not searched.
        compose: overrides -> config.

    Raises:
        UserError: for values that cannot be read and for options that do not exist.
    """
    given = {override.split("=")[0].lstrip("+~") for override in fixed}
    for option in typed:
        if option.lstrip("+") in given:
            raise UserError(f"{option} stands twice on the command line")
    space = {
        option: typed[option] if option in typed else _from_config(option, node)
        for option, node in nodes.items()
        if option not in given
    } | typed
    for option in list(space):
        if option.startswith("+"):
            continue
        if "." not in option and isinstance(space[option], CategoricalDistribution):
            for choice in ends(space[option]):
                compose(f"{option}={choice}")  # finds out what does not exist
        lacking = None
        for context in _contexts(option, space):
            config = compose(*context)
            if exists(config, option):
                break
            lacking = config
        else:
            if option in typed or option not in known_options():
                parent = option.rpartition(".")[0]
                node = OmegaConf.select(lacking, parent) if parent else lacking
                if not isinstance(node, DictConfig):
                    raise UserError(f"there is no option {option}")
                raise UserError(
                    unknown_option(option, parent, [key for key in node if key != "_target_"])
                )
            log.info("not searched: %s, which the chosen configs do not have", option)
            del space[option]
    if not space:
        raise UserError("nothing is searched: give an option several values, student=half,third")
    return space


def exists(config: DictConfig, option: str) -> bool:
    """Whether a config has such an option; ``+option`` adds one that it has not."""
    parent, _, leaf = option.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    return option.startswith("+") or (isinstance(node, DictConfig) and leaf in list(node))


def check_all(space: Space, compose: Compose) -> None:
    """Check every choice and both ends of every range as the config of a run.

    Raises:
        UserError: for the first value that no run could have, that changes what results are
            compared on, or that makes no difference.
    """
    from distill.pipeline.components import RunComponents

    base = _compared(compose())
    for option in space:
        for context in _contexts(option, space):
            if not exists(compose(*context), option):
                continue
            runs: dict[str, str] = {}
            for text in ends(space[option]):
                override = f"{option}={text}"
                config = compose(*context, override)
                validate_config(config)
                RunComponents.from_config(config)
                if _compared(config) != base:
                    raise UserError(
                        f"{override} cannot be searched over: results would not be comparable"
                    )
                below = [
                    f"{other}={ends(space[other])[0]}"
                    for other in space
                    if other.startswith(f"{option}.") and exists(config, other)
                ]
                whole = str(_plain(compose(*context, override, *below)))
                if whole in runs:
                    raise UserError(
                        f"{option}={runs[whole]} and {override} are the same run, other options "
                        f"decide: give {option} one value, or leave those out"
                    )
                runs[whole] = text


def suggest(trial, space: Space, compose: Compose) -> list[str]:
    """Draw a trial's overrides: groups first, then the options that the chosen configs have."""
    overrides: list[str] = []
    groups = [option for option in space if "." not in option]
    for option in groups:
        overrides.append(_suggest(trial, option, space[option]))
    try:
        config = compose(*overrides)
    except (HydraException, OmegaConfBaseException):
        return overrides  # choices that do not go together: the run will fail and say why
    for option in space:
        if option not in groups and exists(config, option):
            overrides.append(_suggest(trial, option, space[option]))
    return overrides


def combinations(space: Space) -> float:
    """How many different trials there can be, at most."""
    total = 1.0
    for distribution in space.values():
        if isinstance(distribution, CategoricalDistribution):
            total *= len(distribution.choices)
        elif distribution.step:
            total *= round((distribution.high - distribution.low) / distribution.step) + 1
        else:
            return float("inf")
    return total


def ends(distribution: BaseDistribution) -> list[str]:
    """All choices, or both ends of a range, as texts of overrides."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    return [text(distribution, value) for value in (distribution.low, distribution.high)]


def text(distribution: BaseDistribution, value: Any) -> str:
    """A value as the text of an override; real numbers get three significant digits."""
    if not isinstance(distribution, FloatDistribution):
        return str(value)
    rounded = float(f"{value:.6g}" if distribution.step else f"{value:.3g}")
    return f"{min(max(rounded, distribution.low), distribution.high):g}"


def describe(distribution: BaseDistribution) -> str:
    """In words, for the report."""
    if isinstance(distribution, CategoricalDistribution):
        return ", ".join(distribution.choices)
    low, high = ends(distribution)
    steps = f", in steps of {distribution.step:g}" if distribution.step else ""
    return f"{low} to {high}{steps}{', by its logarithm' if distribution.log else ''}"


def _suggest(trial, option: str, distribution: BaseDistribution) -> str:
    match distribution:
        case CategoricalDistribution():
            value = trial.suggest_categorical(option, distribution.choices)
        case IntDistribution(low=low, high=high, step=step, log=in_log):
            value = trial.suggest_int(option, low, high, step=step, log=in_log)
        case FloatDistribution(low=low, high=high, step=step, log=in_log):
            value = trial.suggest_float(option, low, high, step=step, log=in_log)
    return f"{option}={text(distribution, value)}"


def _contexts(option: str, space: Space) -> Iterator[list[str]]:
    """The choices under which an option is looked up: of its group, where that is searched too."""
    group = option.split(".")[0]
    if group != option and group in space:
        yield from ([f"{group}={choice}"] for choice in ends(space[group]))
    else:
        yield []


def _plain(config: DictConfig) -> dict[str, Any]:
    plain = OmegaConf.to_container(config, resolve=True)
    return plain | {"overrides": None}


def _compared(config: DictConfig) -> dict[str, Any]:
    plain = _plain(config)
    for option in MAY_DIFFER:
        group, name = option.split(".")
        plain[group].pop(name, None)
    return {name: plain[name] for name in SAME}


def _from_config(option: str, node: Any) -> BaseDistribution:
    where = f"search.space: {option}"
    if isinstance(node, list) and node:
        choices = [_as_override(value) for value in node]
        if len(set(choices)) < len(choices):
            raise UserError(f"{where}: a choice stands twice in {', '.join(choices)}")
        return CategoricalDistribution(choices)
    if not isinstance(node, Mapping) or not {"low", "high"} <= set(node):
        raise UserError(f"{where}: a list of choices, or {{low: ..., high: ...}} is needed")
    unknown = set(node) - {"low", "high", "log", "step"}
    if unknown:
        raise UserError(f"{where}: there is no {min(unknown)}, a range has low, high, log, step")
    numbers = [node["low"], node["high"], node.get("step")]
    return _range(where, *numbers, node.get("log", False))


def _from_sweep(argument: str, override: Override) -> BaseDistribution:
    sweep = override.value()
    if isinstance(sweep, IntervalSweep):
        whole = isinstance(sweep.start, int)
        return _range(argument, sweep.start, sweep.end, None, "log" in sweep.tags, whole)
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
    where: str, low: Any, high: Any, step: Any, in_log: Any, whole: bool | None = None
) -> BaseDistribution:
    """Whole numbers where low, high and step are; real ones otherwise."""
    numbers = [low, high] + ([] if step is None else [step])
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise UserError(f"{where}: {number} is no number")
    if not isinstance(in_log, bool):
        raise UserError(f"{where}: log={in_log}: it must be true or false")
    if whole is None:
        whole = step is not None and all(isinstance(number, int) for number in numbers)
    try:
        with warnings.catch_warnings(action="error"):  # such as of a step that does not fit
            if whole:
                return IntDistribution(low, high, log=in_log, step=step or 1)
            return FloatDistribution(low, high, log=in_log, step=step)
    except (ValueError, UserWarning) as error:
        raise UserError(f"{where}: {' '.join(str(error).split())}") from error


def _as_override(value: Any) -> str:
    """A value of a YAML file as the text of an override."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(map(_as_override, value))}]"
    if isinstance(value, str) and not re.fullmatch(r"[\w./:+-]+|\[[\w.,\[\]-]*\]", value):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return str(value)
