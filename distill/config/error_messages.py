"""Turn the errors of Hydra and OmegaConf into one line that says what to do."""

import difflib
import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.errors import HydraException, InstantiationException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from distill.config.environment import without_environment
from distill.core.errors import RunError, UserError

# Primary config of distill-evaluate, whose own options distill does not have.
EVALUATION = "evaluate.yaml"


@contextmanager
def hydra_errors_raised() -> Iterator[None]:
    """Make Hydra raise errors instead of printing them and exiting with code 1."""
    given = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        if given is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = given


def one_line(error: BaseException) -> tuple[str | None, int]:
    """Return what to print instead of a traceback, and the exit code.

    Returns:
        ``None`` for an error that is neither the user's mistake (2) nor a failure that the user
        can do something about (1).
    """
    message = user_message(error)
    if message is not None:
        return message, 2
    for link in _chain(error):
        if isinstance(link, RunError):
            return _single_line(str(link)), 1
        if isinstance(link, OSError) and link.errno in OUT_OF_PLACE:
            where = f" ({link.filename})" if link.filename else ""
            return f"{OUT_OF_PLACE[link.errno]}{where}: {os.strerror(link.errno)}", 1
        # The writers of weights have exceptions of their own.
        if match := WRITERS_REASONS.search(str(link)):
            return f"a file cannot be written: {_single_line(match[0])}", 1
    return None, 1


WRITERS_REASONS = re.compile(
    r"No space left on device|File too large|Disk quota exceeded|Read-only file system"
    r"|PytorchStreamWriter failed[^.\n]*|unexpected pos \d+ vs \d+"
)


# What the operating system refuses a program that writes, and what it means here.
OUT_OF_PLACE = {
    errno.ENOSPC: "a file cannot be written, the disk is full",
    errno.EDQUOT: "a file cannot be written, the quota of the disk is used up",
    errno.EFBIG: "a file cannot be written, it would exceed the limit on files (ulimit -f)",
    errno.EROFS: "a file cannot be written, the disk is read-only",
    errno.EACCES: "a file cannot be read or written",
    errno.EPERM: "a file cannot be read or written",
    errno.EMFILE: "too many files are open (ulimit -n)",
    errno.ENOTDIR: "a file stands where a folder should be",
    errno.EEXIST: "a file stands where a folder should be",
    errno.EISDIR: "a folder stands where a file should be",
    errno.EIO: "a disk cannot be read or written",
}


def _chain(error: BaseException) -> list[BaseException]:
    """Return an error, its cause, the cause of that, and so on."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    return chain


def user_message(error: BaseException) -> str | None:
    """Return one line for a mistake of the user; ``None`` for any other error."""
    chain = _chain(error)
    for link in chain:
        if isinstance(link, UserError):
            return _single_line(str(link))
    for link in chain:
        if isinstance(link, ValueError) and str(link).startswith("Only one of --run"):
            return _single_line(str(link))
        if 'Could not detect "srun"' in str(link):
            return "hydra/launcher=cluster: this machine is not in a SLURM cluster, it has no srun"
        if isinstance(link, InstantiationException):
            return None  # a class failed for a reason that is not the user's mistake
        if isinstance(link, OverrideParseException):
            name, equals, value = link.override.partition("=")
            quoted = f": quote what has signs in it, '{name}=\"{value}\"'" if equals else ""
            return f"{link.override} cannot be read as NAME=VALUE{quoted}"
        if isinstance(link, HydraException | OmegaConfBaseException):
            return _single_line(_translate_hydra_message("\n".join(str(part) for part in chain)))
    return None


def _translate_hydra_message(text: str) -> str:
    """Reword a message of Hydra in terms of the command line."""
    launcher = re.search(r"'hydra/launcher/(joblib|submitit)\w*'", text)
    if launcher:
        extra = {"joblib": "parallel", "submitit": "cluster"}[launcher[1]]
        return f"hydra/launcher={extra} is not installed: pip install 'distill[{extra}]'"
    group = re.search(
        r"Could not find '([\w/]+)/([^'/]+)'\s+Available options in '[\w/]+':(.*)", text, re.S
    )
    if group:
        options = re.findall(r"^\t([\w.-]+)\s*$", group[3], re.M)
        close = difflib.get_close_matches(group[2], options, 1)
        hint = f"did you mean {close[0]}? " if close else ""
        return f"there is no {group[1]}={group[2]}: {hint}choose one of {', '.join(options)}"
    override = re.search(r"Could not override '([^']+)'", text)
    if override:
        return _unknown_option_message(override[1])
    group = re.search(r"Could not override '?(\S+?)'?\.?\s*No match in the defaults list", text)
    if group:
        return _unknown_option_message(group[1].split("@")[0].split("=")[0])
    merging = re.search(r"Error merging override (\S+?)=", text)
    if merging:
        return f"{merging[1]} takes named values: +{merging[1].lstrip('+')}.NAME=..."
    missing = re.search(r"Missing mandatory value: (\S+)", text)
    if missing:
        return f"{missing[1]} has no value: set {missing[1]}=..."
    to_missing = re.search(r"InterpolationToMissingValueError.*?\$\{?(\S+?)\}? ", text)
    if to_missing:
        return f"{to_missing[1]} has no value: set {to_missing[1]}=..."
    return text.split("\n")[0] if len(text.split("\n")[0]) > 20 else text


def _unknown_option_message(option: str) -> str:
    """Return the message for an option that no config has, with the nearest one that exists."""
    known = known_options()
    if option.split(".")[0] == "search" and option in known:
        return f"there is no option {option}: distill-search has it"
    choices = _choices_with(option)
    if choices:
        group, verb = option.split(".")[0], "has" if len(choices) == 1 else "have"
        named = ", ".join(choices[:6]) + (" and others" if len(choices) > 6 else "")
        return f"there is no option {option} with this {group}: {group}={named} {verb} it"
    known = [name for name in known if name != option]
    close = difflib.get_close_matches(option, known, 1, cutoff=0.6)
    if not close:
        last = option.rsplit(".", 1)[-1]
        close = [name for name in known if name.rsplit(".", 1)[-1] == last][:1]
    hint = f": did you mean {close[0]}?" if close else ": distill --help lists them"
    return f"there is no option {option}{hint}"


def known_options() -> list[str]:
    """Return every option of every config below conf/, as it is written in an override."""
    from omegaconf import DictConfig, OmegaConf

    from distill.config.resolvers import conf_dir

    found: set[str] = set()

    def collect(prefix: str, node: DictConfig) -> None:
        for key in node:
            name = prefix + str(key)
            if key not in ("defaults", "_target_", "hydra"):
                found.add(name)
            child = node._get_node(key)
            if isinstance(child, DictConfig) and not child._is_none():
                collect(f"{name}.", child)

    root = Path(conf_dir())
    for file in root.rglob("*.yaml"):
        if file.name == EVALUATION:
            continue
        group = file.parent.relative_to(root).as_posix()
        node = OmegaConf.load(file)
        found.update(part for part in [group.split("/")[0]] if part not in (".", "base", "hydra"))
        if isinstance(node, DictConfig) and group.split("/")[0] not in (
            "hydra",
            "experiment",
            "debug",
        ):
            package = re.match(r"# @package ([\w.]+)\n", file.read_text(encoding="utf-8"))
            collect("" if group == "." else f"{package[1] if package else group}.", node)
    return sorted(found)


def _choices_with(option: str) -> list[str]:
    """Return which configs of the option's group have it: of ``student.layers``, half and others.

    What a config takes over from another by its defaults is not followed. ``files`` and ``half``,
    the plainest ones, come first.
    """
    from omegaconf import DictConfig, OmegaConf

    from distill.config.resolvers import conf_dir

    group, _, key = option.partition(".")
    found = []
    for file in sorted((Path(conf_dir()) / group).glob("*.yaml")):
        node: Any = OmegaConf.load(file)
        if file.read_text(encoding="utf-8").startswith("# @package _global_"):
            node = node.get(group)
        for part in key.split("."):
            node = node._get_node(part) if isinstance(node, DictConfig) else None
        if node is not None and file.stem != "default":
            found.append(file.stem)
    return sorted(found, key=lambda name: name not in ("files", "half"))


def _single_line(text: str) -> str:
    """Return a text in one line, without the values of environment variables."""
    return " ".join(without_environment(text).split())
