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


class RunError(Exception):
    """A failure of a run that is no mistake in what the user typed, such as a full disk.

    The commands print it as ``error: ...`` in one line and exit with 1.
    """


class DivergenceError(RunError):
    """A training came to values that are infinite or no numbers.

    Args:
        description: of what is trained, such as ``student``.
        where: the step or epoch, and what is not finite.
        advice: what to try.
    """

    def __init__(self, description: str, where: str, advice: str):
        # All arguments, so that it can be sent from one process to another.
        super().__init__(description, where, advice)
        self.description, self.where, self.advice = description, where, advice

    def __str__(self) -> str:
        return (
            f"{self.description}: the training diverged: {self.where}. Try {self.advice}; the last "
            "good checkpoint is kept"
        )
