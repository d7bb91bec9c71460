"""The one error that a user is meant to read."""


class QI2Error(ValueError):
    """Bad input or a missing precondition.

    The message says what was wrong, where (file, row or key), and what to do.
    """
