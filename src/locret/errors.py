"""The one exception type that users are meant to see."""

from __future__ import annotations


class LocretError(ValueError):
    """Bad input or an unusable state, told in one line: what was given, what is allowed, what to do."""
