"""The errors that a user is meant to read."""


class QI2Error(ValueError):
    """Bad input or a missing precondition.

    The message says what was wrong, where (file, row or key), and what to do.
    """


class Interrupted(QI2Error):
    """Training was told to stop (SIGTERM): its step is finished and saved, and the same command goes on from there."""
