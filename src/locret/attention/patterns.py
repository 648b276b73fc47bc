"""MInference's patterns (arXiv 2407.02490): which keys each head attends to while a prompt is read, and their file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from locret.errors import LocretError
from locret.files import write_text_whole
from locret.texts import read_json

A_SHAPE, VERTICAL_SLASH, BLOCK_SPARSE = "stream_llm", "vertical_and_slash", "block_sparse"
NAMES = (A_SHAPE, VERTICAL_SLASH, BLOCK_SPARSE)


@dataclass(frozen=True, slots=True)
class Pattern:
    """What one head looks at.

    Attributes:
        name: "stream_llm" (A-shape: the first `vertical` keys and the nearest `slash`), "vertical_and_slash" (the best
            `vertical` keys and the best `slash` diagonals) or "block_sparse" (the best blocks of keys; the published
            code takes the best 100 whatever the two numbers say, and so does this).
        vertical, slash: see there.
    """

    name: str = VERTICAL_SLASH
    vertical: int = 1000
    slash: int = 6096

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise LocretError(f"unknown pattern {self.name!r}: choose one of {', '.join(NAMES)}")
        for key in ("vertical", "slash"):
            value = getattr(self, key)
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise LocretError(f"pattern {self.name!r} has {key} {value!r}: give a whole number of at least 0")


@dataclass(frozen=True)
class Patterns:
    """One pattern for every query head of every layer.

    Attributes:
        layers: for every layer, head -> pattern and its score; heads that are missing have the default pattern.
        default: 1000 verticals and 6096 slashes, as published.
    """

    layers: tuple[dict[int, tuple[Pattern, float]], ...] = ()
    default: Pattern = Pattern()

    def of(self, layer: int, heads: int) -> list[Pattern]:
        """The patterns of one layer's query heads."""
        own = self.layers[layer] if layer < len(self.layers) else {}
        return [own[head][0] if head in own else self.default for head in range(heads)]

    def check(self, layers: int, heads: int) -> None:
        """Refuse patterns of another model.

        Raises:
            LocretError: they are for another number of layers, or for heads that the model does not have.
        """
        if self.layers and len(self.layers) != layers:
            raise LocretError(f"these patterns are for {len(self.layers)} layers and the model has {layers}")
        highest = max((head for own in self.layers for head in own), default=0)
        if highest >= heads:
            raise LocretError(f"these patterns are for {highest + 1} or more query heads and the model has {heads}")

    @classmethod
    def load(cls, path: Path) -> Patterns:
        """Read a file in MInference's format: a list with, for every layer, {head: [name, vertical, slash, score]}.

        Raises:
            LocretError: the file cannot be read or has another format.
        """
        data = read_json(path)
        try:
            return cls(tuple({int(head): _pattern(entry) for head, entry in own.items()} for own in data))
        except (TypeError, ValueError, AttributeError) as error:
            raise LocretError(
                f"{path} is no file of MInference patterns ({error}): it should hold a list with, for every layer, "
                '{"0": ["vertical_and_slash", 1000, 6096, 0.9], ...}'
            ) from error

    def save(self, path: Path) -> None:
        """Write the same format.

        Raises:
            LocretError: the file cannot be written.
        """
        data = [
            {str(head): [found.name, found.vertical, found.slash, score] for head, (found, score) in own.items()}
            for own in self.layers
        ]
        write_text_whole(path, json.dumps(data))


def _pattern(entry: Sequence[Any]) -> tuple[Pattern, float]:
    name, vertical, slash, score = entry
    return Pattern(name, vertical, slash), float(score)
