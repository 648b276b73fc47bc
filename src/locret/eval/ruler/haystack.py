"""Haystacks of any number of units, with facts put in."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from locret.eval.haystack import SENTENCE_END

DEPTHS = tuple(round(100 * step / 39) for step in range(40))  # per cent: RULER puts essay needles at 40 depths
LONG_SENTENCE = 200  # words; text without full stops is cut, or all needles would stand at its two ends


class Haystack(Protocol):
    """Text that grows unit by unit."""

    @property
    def most(self) -> int:
        """Units at most."""
        ...

    def draw_depths(self, count: int, rng: random.Random) -> tuple[float, ...]:
        """Where so many facts go: parts of the haystack (0 to 1), rising."""
        ...

    def hide(self, units: int, facts: Sequence[str], depths: Sequence[float]) -> str:
        """A text of `units` units with the facts in it, in their order."""
        ...


@dataclass(frozen=True, slots=True)
class LineHaystack:
    """A haystack whose unit is a line: the noise, or sentences that look like the needle."""

    lines: tuple[str, ...]

    @property
    def most(self) -> int:
        """Units at most."""
        return len(self.lines)

    def draw_depths(self, count: int, rng: random.Random) -> tuple[float, ...]:
        """Any depths."""
        return tuple(sorted(rng.random() for _ in range(count)))

    def hide(self, units: int, facts: Sequence[str], depths: Sequence[float]) -> str:
        """`units` lines and one for each fact."""
        return "\n".join(_merge(self.lines[:units], facts, depths))


@dataclass(frozen=True, slots=True)
class EssayHaystack:
    """Running text whose unit is a word; facts go between its sentences. A short text is repeated.

    Attributes:
        words: the text.
        most: units at most.
    """

    words: tuple[str, ...]
    most: int

    def draw_depths(self, count: int, rng: random.Random) -> tuple[float, ...]:
        """Different ones out of RULER's forty."""
        return tuple(depth / 100 for depth in sorted(rng.sample(DEPTHS, count)))

    def hide(self, units: int, facts: Sequence[str], depths: Sequence[float]) -> str:
        """`units` words, and the facts between sentences."""
        rounds = -(-units // len(self.words))
        text = " ".join((self.words * rounds)[:units])
        return " ".join(_merge(list(_sentences(text)), facts, depths))


def _sentences(text: str) -> Sequence[str]:
    sentences = []
    for sentence in SENTENCE_END.split(text):
        words = sentence.split(" ")
        sentences += [" ".join(words[i : i + LONG_SENTENCE]) for i in range(0, len(words), LONG_SENTENCE)]
    return sentences


def _merge(parts: Sequence[str], facts: Sequence[str], depths: Sequence[float]) -> list[str]:
    """The parts, each fact before the part at its depth; depths rise."""
    merged: list[str] = []
    done = 0
    for fact, depth in zip(facts, depths, strict=True):
        place = int(len(parts) * depth)
        merged += [*parts[done:place], fact]
        done = place
    return [*merged, *parts[done:]]
