"""The exception for mistakes of the user."""


class UserError(ValueError):
    """Something the user can correct: a missing file, an impossible pairing, a value out of range.

    Raise it before any training, with a message of one line that says what is wrong and what to
    do about it. The commands print it as ``error: ...`` on standard error and exit with 2.
    """
