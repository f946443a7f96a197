"""Dataclasses that are read from and written to JSON objects by the types of their fields."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from typing import Any, Self, Union, cast

from distill.core.errors import UserError
from distill.reporting.text import finite


class ReportError(UserError):
    """A report that cannot be read: damaged, of another schema, or not a report at all."""


@dataclass(frozen=True, eq=False)
class Record:
    """Base of the dataclasses that are read from and written to JSON objects.

    Attributes:
        extra: Keys of the JSON object that no field stands for; written back after the fields.
    """

    extra: Mapping[str, Any] = field(default_factory=dict, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, float) and finite(value) is None:
                object.__setattr__(self, name, None)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], path: str = "") -> Self:
        """Read a JSON object.

        Args:
            content: As :mod:`json` parses it.
            path: Where it stands in the report, for error messages.

        Raises:
            ReportError: A required key is missing, or a container is of another type.
        """
        if not isinstance(content, Mapping):
            place = f"has {_describe(content)} as {path}" if path else f"is {_describe(content)}"
            raise ReportError(f"{place}, not an object")
        values: dict[str, Any] = {}
        for name, (kind, is_required) in cls._fields().items():
            where = f"{path}.{name}" if path else name
            if content.get(name) is not None:
                values[name] = _decode(kind, content[name], where)
            elif is_required:
                raise ReportError(f"lacks {where}")
        extra = {name: value for name, value in content.items() if name not in cls._fields()}
        return cls(**values, **({"extra": extra} if extra else {}))

    @classmethod
    def _fields(cls) -> dict[str, tuple[Any, bool]]:
        """Return type and requiredness of each field, in order, without ``extra``."""
        return _field_types(cast(Any, cls))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object: plain dictionaries and lists, without NaN or infinity."""
        content = {name: getattr(self, name) for name in self._fields()}
        absent = [name for name, value in content.items() if value == {}]
        plain = _plain({**content, **dict.fromkeys(absent), **self.extra})
        return cast("dict[str, Any]", plain)


class Scores(Mapping[str, float | None]):
    """Read-only mapping from names to values, for measures that depend on the task."""

    def __init__(self, values: Mapping[str, float | None]) -> None:
        self._values = {name: finite(value) for name, value in values.items()}

    def __getitem__(self, name: str) -> float | None:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._values})"


@cache
def _field_types(cls: type) -> dict[str, tuple[Any, bool]]:
    kinds = typing.get_type_hints(cls)
    return {
        one.name: (
            _without_none(kinds[one.name]),
            one.default is MISSING and one.default_factory is MISSING,
        )
        for one in fields(cls)
        if one.name != "extra"
    }


def _without_none(kind: Any) -> Any:
    if typing.get_origin(kind) in (Union, types.UnionType):
        (kind,) = (one for one in typing.get_args(kind) if one is not type(None))
    return kind


def _decode(kind: Any, value: Any, path: str) -> Any:
    """Read a JSON value as a field's type."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind in (int, float):
        return finite(value)
    if kind is bool:
        return value if isinstance(value, bool) else None
    if kind is str:
        return str(value)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ReportError(f"has {_describe(value)} as {path}, not a list")
        return tuple(_decode(arguments[0], one, f"{path}[{i}]") for i, one in enumerate(value))
    if not isinstance(value, Mapping):
        raise ReportError(f"has {_describe(value)} as {path}, not an object")
    if origin is Mapping:
        member = arguments[1]
        absent: Any = {} if isinstance(member, type) and issubclass(member, Record) else None
        return {
            name: _decode(member, absent if one is None else one, f"{path}.{name}")
            for name, one in value.items()
        }
    assert isinstance(kind, type), kind
    if issubclass(kind, Record):
        return kind.from_dict(value, path)
    assert issubclass(kind, Scores), kind
    return kind(value)


def _plain(value: Any) -> Any:
    """Turn records into dictionaries, tuples into lists, and non-finite numbers into None."""
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return finite(value)
    return str(value) if isinstance(value, str) else value


def _describe(value: Any) -> str:
    return "null" if value is None else f"a {type(value).__name__}"
