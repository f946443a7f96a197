"""Differences between a golden file and what runs give now."""

import json
import math
import struct
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tests.golden.cases import Group
from tests.golden.record import kind, machine

EXPECTED = Path(__file__).parent / "expected"
# Keys that may be there now and were not when the golden files were made: patterns of paths below
# a case, such as "report.data.licence" or "scalars.validation/*".
ALLOWED_ADDITIONS: tuple[str, ...] = ()
# Texts that are spelled otherwise since the files were made: option names and notes in American
# spelling. Of each: where it may stand, what it was, what it is now.
RESPELLED = (
    ("report.run.overrides.*", "data.unlabelled", "data.unlabeled"),
    ("report.run.overrides.*", "soft_targets.standardise", "soft_targets.standardize"),
    ("report.data.notes.*", "data.unlabelled", "data.unlabeled"),
    ("report.data.notes.*", "labelled examples", "labeled examples"),
    ("report.data.notes.*", "no labelled test split", "no labeled test split"),
)
# On another machine: of training losses, relative and absolute; of metrics, the structure alone.
RELATIVE, ABSOLUTE = 2e-3, 1e-4
# The same for cases that compute with fewer digits.
LOOSE = {"bf16": (5e-2, 5e-3)}
# What is the same on every machine.
SAME_ANYWHERE = ("exit", "report.schema", "report.run", "report.task", "report.data")

NOTHING = object()
# Relative and absolute tolerance; ``None``: to the bit.
Near = tuple[float, float] | None


def golden(group: Group) -> dict[str, Any]:
    """The content of a group's golden file."""
    return json.loads((EXPECTED / f"{group.name}.json").read_text(encoding="utf-8"))


def how(group: Group) -> str:
    """How a group is compared on this machine: ``to-the-bit`` or ``within-tolerance``."""
    file = EXPECTED / f"{group.name}.json"
    same = file.is_file() and golden(group)["machine"] == machine()
    return "to-the-bit" if same else "within-tolerance"


def differences(expected: dict[str, Any], got: dict[str, Any], exact: bool) -> list[str]:
    """A line for every difference between the cases of a golden file and those run now."""
    lines = []
    for name in sorted(expected.keys() | got.keys()):
        if name not in got or name not in expected:
            lines.append(f"{name}: {'not run' if name in expected else 'not frozen'}")
            continue
        near = None if exact else LOOSE.get(name, (RELATIVE, ABSOLUTE))
        lines += [f"{name}: {line}" for line in _of_case(expected[name], got[name], near)]
    return lines


def _of_case(expected: dict[str, Any], got: dict[str, Any], near: Near) -> Iterator[str]:
    before, now = dict(_leaves(expected)), dict(_leaves(got))
    if before["exit",] != now["exit",]:
        yield f"exit: expected {before['exit',]}, got {now['exit',]}"
        return
    for path in [*before, *(path for path in now if path not in before)]:
        old, new = before.get(path, NOTHING), now.get(path, NOTHING)
        where = ".".join(path)
        old = _respelled(where, old)
        if old is NOTHING:
            if not any(fnmatchcase(where, pattern) for pattern in ALLOWED_ADDITIONS):
                yield f"{where}: added, {new!r}"
        elif new is NOTHING:
            yield f"{where}: gone, expected {old!r}"
        elif path[0] == "scalars":
            yield from _of_curve(path[1], old, new, near)
        elif not _equal(where, old, new, near):
            yield f"{where}: expected {old!r}, got {new!r}"


def _respelled(where: str, value: Any) -> Any:
    """A frozen value as it is spelled now."""
    for pattern, before, now in RESPELLED:
        if isinstance(value, str) and fnmatchcase(where, pattern):
            value = value.replace(before, now)
    return value


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value that is no container (or an empty one) by its path."""
    if isinstance(value, dict | list) and value:
        keys = value if isinstance(value, dict) else range(len(value))
        for key in keys:
            yield from _leaves(value[key], (*path, str(key)))
    else:
        yield path, value


def _equal(where: str, old: Any, new: Any, near: Near) -> bool:
    if near is None or where.startswith(SAME_ANYWHERE):
        return old == new and type(old) is type(new)
    return where.startswith("weights.") or kind(old) == kind(new)


def _of_curve(tag: str, old: str, new: str, near: Near) -> Iterator[str]:
    """Differences between two curves, as `record.scalars` writes them."""
    (old_head, old_values), (new_head, new_values) = (line.split(": ", 1) for line in (old, new))
    if old_head != new_head:
        yield f"{tag}: expected {old_head}, got {new_head} (values @steps)"
        return
    first = old_head.partition("@")[2].partition("-")[0]
    pairs = zip(old_values.split(), new_values.split(), strict=True)
    for index, (one, other) in enumerate(pairs):
        if one == other or _close(tag, one, other, near):
            continue
        step = "last" if index > 20 else f"{index} from step {first}"
        yield f"{tag}: value {step}: expected {_number(one)!r}, got {_number(other)!r}"


def _close(tag: str, one: str, other: str, near: Near) -> bool:
    """Whether another machine's values are near enough; only losses and rates have to be."""
    if near is None:
        return False
    if not tag.startswith(("train/", "learning_rate")):
        return True
    relative, absolute = near
    return math.isclose(_number(one), _number(other), rel_tol=relative, abs_tol=absolute)


def _number(digits: str) -> float:
    (number,) = struct.unpack(">f", bytes.fromhex(digits))
    return number
