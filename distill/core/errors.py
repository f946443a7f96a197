"""The one exception that stands for a mistake of the user's."""


class UserError(ValueError):
    """Something the user can mend: a missing file, an impossible pairing, a value out of range.

    Raise it before any training, with a message of one line that says what is wrong and what to
    do about it. The commands print it as ``error: ...`` on standard error and exit with 2.
    """
