"""A budgeted cache as plain lists, written from the documented contract alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import locret

Score = Callable[[int, int, int], float]  # layer, head, position


@dataclass
class NaiveCache:
    """For each (layer, head), the list of kept positions in order of arrival."""

    budget: locret.Budget
    score: Score
    layers: int
    heads: int
    seen: int = 0
    prompt_end: int | None = None
    units: dict[tuple[int, int], list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.units = {(layer, head): [] for layer in range(self.layers) for head in range(self.heads)}

    def fork(self) -> NaiveCache:
        return copy.deepcopy(self)

    def prompt(self, tokens: int) -> list[int]:
        """Read a prompt whose length is known; returns the pieces it was read in."""
        self.prompt_end = self.seen + tokens
        return self._read(tokens)

    def chunk(self, tokens: int) -> list[int]:
        """Read tokens of which nobody said where their prompt ends."""
        if tokens > min(32, self.budget.chunk) and self.prompt_end is not None and self.seen >= self.prompt_end:
            self.prompt_end = None  # fewer tokens than that are decoding
        if tokens > self.budget.chunk and self.prompt_end is None:
            self.prompt_end = self.seen + tokens
        return self._read(tokens)

    def _read(self, tokens: int) -> list[int]:
        if tokens > 1 and len(self.units[0, 0]) > self.budget.size + self.budget.chunk:
            self._cut(self._protected())
        pieces, end = [], self.seen + tokens
        while self.seen < end:
            body_end = end if self.prompt_end is None else self.prompt_end - self.budget.local
            stop = body_end if self.seen < body_end < end else end
            pieces.append(min(self.budget.chunk, stop - self.seen))
            self._pass(pieces[-1])
        return pieces

    def _pass(self, tokens: int) -> None:
        for listed in self.units.values():
            listed.extend(range(self.seen, self.seen + tokens))
        self.seen += tokens
        if self.prompt_end is None:
            if tokens > 1:
                self._cut(self._protected())
        elif self.seen < self.prompt_end - self.budget.local:
            self._cut(self._protected())
        elif self.seen == self.prompt_end - self.budget.local:
            self._cut(0)

    def _protected(self) -> int:
        known = self.prompt_end is not None
        return self.budget.stabilizers if known else max(self.budget.stabilizers, self.budget.local)

    def _cut(self, protect: int) -> None:
        for (layer, head), listed in self.units.items():
            excess = len(listed) - self.budget.size
            if excess <= 0:
                continue
            exposed = listed[: len(listed) - protect]
            worst_first = sorted(exposed, key=lambda at: (self.score(layer, head, at), -at))  # ties: newest goes first
            gone = set(worst_first[:excess])
            self.units[layer, head] = [at for at in listed if at not in gone]
