"""The one exception type that users are meant to see."""

from __future__ import annotations


class LocretError(ValueError):
    """Bad input or an unusable state, told in one line: what was given, what is allowed, what to do."""


def first_line(error: BaseException) -> str:
    """The first line of what an error of a library says, or its kind if it says nothing."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
