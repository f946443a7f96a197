"""Single values that come in several forms."""

from typing import Any

from distill.core.errors import UserError

_FLAGS = {
    "true": True, "yes": True, "1": True, "1.0": True,
    "false": False, "no": False, "0": False, "0.0": False, "": False, "none": False, "null": False,
}  # fmt: skip


def parse_flag(value: Any, where: str) -> bool:
    """Return a yes or no that may be written as text: ``"false"`` is no; so is nothing.

    Args:
        value: the value.
        where: what holds it, for the message.

    Raises:
        UserError: for anything else.
    """
    flag = _FLAGS.get("" if value is None else str(value).strip().lower())
    if flag is None:
        raise UserError(f"{where} '{value}', which is neither true nor false")
    return flag
