"""Exceptions that the commands turn into exit codes."""


class UserError(ValueError):
    """Something the user can correct: a missing file, an impossible pairing, a value out of range.

    Raise it before any training, with a message of one line that says what is wrong and what to
    do about it. The commands print it as ``error: ...`` on standard error and exit with 2.
    """


class UnmetGoal(Exception):
    """The work is done and reported, but what was asked for was not found.

    The commands print the message, which is the report's short form, and exit with 1.
    """
