"""Settings that come from environment variables, which stay variables in what is written.

``data.path=${oc.env:DATA}/films`` may hold what only this machine should know, and a file of
somebody else may ask for ``${oc.env:AWS_SECRET_ACCESS_KEY}``: config.yaml keeps the interpolation.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from omegaconf.resolvers import oc

from distill.core.errors import UserError

# Options that end up in reports, curves and names of folders.
NAMES = ("name", "data.name", "teacher.name", "student.name", "objective.name")
# The program's own: where its cache is.
CACHE_VARIABLE = "DISTILL_CACHE"
OWN = frozenset({f"${{oc.env:{CACHE_VARIABLE},${{user_cache:}}}}"})


# Values of the variables that settings were made of, by name.
_READ: dict[str, str] = {}


def forget_environment() -> None:
    """Forget the variables of an earlier command in this process."""
    _READ.clear()


def watch_environment() -> None:
    """Remember the variables that interpolations read, so that messages can leave them out."""

    def read(name: str, *default: Any) -> Any:
        value = oc.env(name, *default)
        if name in os.environ and name != CACHE_VARIABLE:
            _READ[name] = os.environ[name]
        return value

    OmegaConf.register_new_resolver("oc.env", read, replace=True)


def without_environment(message: str) -> str:
    """Return a message with the names of variables in the place of their values.

    >>> _READ["TOKEN"] = "s3cr3t"
    >>> without_environment("data.path=/s3cr3t/films: there is no such file")
    'data.path=/${oc.env:TOKEN}/films: there is no such file'
    >>> _READ.clear()
    """
    for name, value in sorted(_READ.items(), key=lambda item: -len(item[1])):
        if value.strip():
            whole = rf"(?<!\w){re.escape(value)}(?!\w)"
            message = re.sub(whole, f"${{oc.env:{name}}}".replace("\\", r"\\"), message)
    return message


def resolve_for_writing(config: DictConfig) -> dict[str, Any]:
    """Return plain values, those that depend on the environment as they were given."""
    resolved = OmegaConf.to_container(config, resolve=True)
    given = OmegaConf.to_container(config, resolve=False)
    elsewhere = None  # every interpolation stays, if no other value is accepted
    for value in ("\ue000", "9173046"):  # a number is made of some variables
        with _other_environment(value):
            try:
                elsewhere = OmegaConf.to_container(config, resolve=True)
                break
            except (OmegaConfBaseException, ValueError, TypeError):
                continue
    plain = _merge(resolved, given, elsewhere)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def check_names(config: DictConfig) -> None:
    """Refuse names that are an environment variable's value: they are written into reports.

    Raises:
        UserError: naming the option.
    """
    given = OmegaConf.to_container(config, resolve=False)
    for option in NAMES:
        node: Any = given
        for key in option.split("."):
            node = node.get(key) if isinstance(node, dict) else None
        if "oc.env" in str(node or ""):
            raise UserError(
                f"{option}={node}: a name is written into reports, where the value of an "
                "environment variable does not belong: give the name itself"
            )


@contextmanager
def _other_environment(value: str) -> Iterator[None]:
    """Let every environment variable have another value."""
    OmegaConf.register_new_resolver("oc.env", lambda *_: value, replace=True)
    try:
        yield
    finally:
        watch_environment()


def _merge(resolved: Any, given: Any, elsewhere: Any) -> Any:
    if isinstance(given, str) and given in OWN:
        return resolved
    if isinstance(resolved, dict) and isinstance(given, dict):
        others = elsewhere if isinstance(elsewhere, dict) else {}
        return {key: _merge(resolved[key], given[key], others.get(key)) for key in resolved}
    if isinstance(resolved, list) and isinstance(given, list):
        same = isinstance(elsewhere, list) and len(elsewhere) == len(resolved)
        values = elsewhere if same else [None] * len(resolved)
        return [_merge(*three) for three in zip(resolved, given, values, strict=True)]
    is_interpolation = isinstance(given, str) and "${" in given
    return given if is_interpolation and resolved != elsewhere else resolved
