"""The errors that a user can cause or meet, with the exit code each of them ends a command with."""

from __future__ import annotations


class LongtailError(Exception):
    """Bad usage, configuration or input: says what was expected, what was received and the remedy."""

    exit_code = 2


class LongtailFailure(LongtailError):
    """Work that failed although its input was accepted (disk full, a job that died)."""

    exit_code = 1
