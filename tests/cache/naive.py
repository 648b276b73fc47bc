"""A budgeted cache as plain lists, written from the documented contract alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import locret

Score = Callable[[int, int, int], float]  # layer, head, position


@dataclass
class NaiveCache:
    """For each (layer, head), the list of kept positions in order of arrival, and the compact slot of each."""

    budget: locret.Budget
    score: Score
    layers: int
    heads: int
    seen: int = 0
    prompt_end: int | None = None
    cut_at: int = 0
    units: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    slots: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    next_slot: int = 0
    due: bool = False  # units have been evicted while reading: the next pass moves the others together
    gaps: bool = False  # units have been evicted while writing

    def __post_init__(self) -> None:
        self.units = {(layer, head): [] for layer in range(self.layers) for head in range(self.heads)}
        self.slots = {where: [] for where in self.units}

    def fork(self) -> NaiveCache:
        return copy.deepcopy(self)

    @property
    def stored(self) -> int:
        return len(self.units[0, 0])

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

    def can_crop(self, tokens: int) -> bool:
        """Tokens can be taken back if all of them came after the latest eviction."""
        return self.seen - tokens >= self.cut_at

    def crop(self, tokens: int) -> None:
        self.seen -= tokens
        self.next_slot -= tokens
        for where in self.units:
            self.units[where] = [at for at in self.units[where] if at < self.seen]
            self.slots[where] = self.slots[where][: len(self.units[where])]

    def _read(self, tokens: int) -> list[int]:
        if tokens > 1 and self.stored > self.budget.size + self.budget.chunk:
            self._cut(self.budget.size, self._protected())
            self.due = True
        pieces, end = [], self.seen + tokens
        while self.seen < end:
            body_end = end if self.prompt_end is None else self.prompt_end - self.budget.local
            stop = body_end if self.seen < body_end < end else end
            pieces.append(min(self.budget.chunk, stop - self.seen))
            self._pass(pieces[-1])
        return pieces

    def _pass(self, tokens: int) -> None:
        if self.due or (self.gaps and self.next_slot + tokens > self.budget.size + self.budget.chunk):
            self.slots = {where: list(range(self.stored)) for where in self.units}
            self.next_slot, self.due, self.gaps = self.stored, False, False
        for where in self.units:
            self.units[where].extend(range(self.seen, self.seen + tokens))
            self.slots[where].extend(range(self.next_slot, self.next_slot + tokens))
        self.seen += tokens
        self.next_slot += tokens
        body_end = None if self.prompt_end is None else self.prompt_end - self.budget.local
        if tokens > 1 if body_end is None else self.seen < body_end:
            self.due |= self._cut(self.budget.size, self._protected())
        elif self.seen == body_end:
            self.due |= self._cut(self.budget.size, self.budget.pin_newest)
        elif self.budget.decode_budget is not None:
            room = self.budget.size + self.budget.local + self.budget.decode_budget
            written = self.seen - (self.prompt_end or 0)
            if any(count % self.budget.decode_every == 0 for count in range(written - tokens + 1, written + 1)):
                self.gaps |= self._cut(room, min(self._protected(), room))

    def _protected(self) -> int:
        kept = [self.budget.stabilizers, self.budget.pin_newest]
        return max(kept if self.prompt_end is not None else [*kept, self.budget.local])

    def _cut(self, size: int, protect: int) -> bool:
        """Evict down to `size` units; whether anything had to go."""
        excess = self.stored - size
        if excess <= 0:
            return False
        self.cut_at = self.seen
        for (layer, head), listed in self.units.items():
            exposed = [at for at in listed[: len(listed) - protect] if at >= self.budget.pin_first]
            worst_first = sorted(exposed, key=lambda at: (self.score(layer, head, at), -at))  # ties: newest goes first
            gone = set(worst_first[:excess])
            kept = [(at, slot) for at, slot in zip(listed, self.slots[layer, head], strict=True) if at not in gone]
            self.units[layer, head] = [at for at, _ in kept]
            self.slots[layer, head] = [slot for _, slot in kept]
        return True
