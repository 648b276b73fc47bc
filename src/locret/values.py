"""Whether a value that a caller gives is a number, and in its range: asked before anything is done with it."""

from __future__ import annotations

from numbers import Integral, Real

from locret.errors import LocretError


def is_number(value: object) -> bool:
    """Whether a value is a real number, those of numpy included; True and False are none, though Python counts them."""
    return not isinstance(value, bool) and isinstance(value, Real)


def check_whole(name: str, value: object, least: int, most: int | None = None) -> None:
    """Refuse what is no whole number from `least` to `most`.

    Raises:
        LocretError: with the name, the value and the range.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise LocretError(f"{name} is {value!r}: give a whole number of at least {least}")
    number = int(value)
    if number < least:
        raise LocretError(f"{name} is {number}: give at least {least}")
    if most is not None and number > most:
        raise LocretError(f"{name} is {number}: give at most {most}")
