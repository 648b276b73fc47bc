"""Options that hold several values, separated by commas."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import typer

T = TypeVar("T")


def split(text: str, option: str, convert: Callable[[str], T]) -> tuple[T, ...]:
    """The values of a comma-separated option, each once, in the order given.

    Raises:
        typer.BadParameter: there are none, or one cannot be converted.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise typer.BadParameter(f"{option} is empty: give values separated by commas")
    return tuple(dict.fromkeys(_convert(word, option, convert) for word in words))


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """What makes an int from `least` to `most` of text such as `4096` or `4_096`; anything else is a ValueError."""

    def convert(text: str) -> int:
        number = int(text)
        if not least <= number <= most:
            raise ValueError(f"give {least} to {most}")
        return number

    return convert


def _convert(word: str, option: str, convert: Callable[[str], T]) -> T:
    try:
        return convert(word)
    except ValueError as error:
        raise typer.BadParameter(f"{option} has {word!r}: {error}") from None
