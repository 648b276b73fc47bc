"""Needles in a haystack: single, with other keys beside them, with several values, with several questions."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

from locret.errors import LocretError
from locret.eval.ruler.contract import Drafter, Setup
from locret.eval.ruler.haystack import EssayHaystack, Haystack, LineHaystack
from locret.eval.ruler.sources import NOISE, draw_distinct, draw_number, draw_uuid, draw_word
from locret.eval.ruler.wording import Prompt, Wording

DRAW = {"word": draw_word, "number": draw_number, "uuid": draw_uuid}
LINE_TOKENS = 8  # a line of a haystack has more tokens than this under any tokenizer, so no more lines are made


@dataclass(frozen=True, slots=True)
class Niah:
    """Parameters of a needle task.

    Attributes:
        haystack: what needles are hidden in; "needle" is made of sentences like theirs.
        key, value: what a needle's key and value are: "word", "number" or "uuid".
        keys: needles with different keys.
        values: needles of the same key.
        queries: keys that are asked for.
    """

    haystack: Literal["noise", "essay", "needle"]
    key: str = "word"
    value: str = "number"
    keys: int = 1
    values: int = 1
    queries: int = 1

    def __post_init__(self) -> None:
        if self.queries > self.keys:
            raise LocretError(f"{self.queries} queries need as many keys, not {self.keys}")

    @property
    def wording(self) -> Wording:
        """RULER's words: in the singular where one answer is asked for."""
        kind = self.value
        if self.queries * self.values == 1:
            return Wording(
                f"A special magic {kind} is hidden within the following text. Make sure to memorize it. "
                f"I will quiz you about the {kind} afterwards.\n",
                f"\nWhat is the special magic {kind} for {{query}} mentioned in the provided text?",
                f" The special magic {kind} for {{query}} mentioned in the provided text is",
            )
        return Wording(
            f"Some special magic {kind}s are hidden within the following text. Make sure to memorize it. "
            f"I will quiz you about the {kind}s afterwards.\n",
            f"\nWhat are all the special magic {kind}s for {{query}} mentioned in the provided text?",
            f" The special magic {kind}s for {{query}} mentioned in the provided text are",
        )

    def sentence(self, key: str, value: str) -> str:
        """A needle."""
        return f"One of the special magic {self.value}s for {key} is: {value}."

    def prepare(self, setup: Setup) -> Drafter:
        """Read or make the haystack; one of needles is made for every sample."""
        lines = setup.length // LINE_TOKENS
        own = self.keys * self.values
        others = lines if self.haystack == "needle" else 0
        shared: Haystack = LineHaystack((NOISE,) * lines)
        if self.haystack == "essay":
            shared = EssayHaystack(setup.sources.essay_words(), setup.length)

        def draft(index: int, rng: random.Random) -> NiahDraft:
            # Keys and values of the haystack are drawn with the needles', so that all of them differ.
            keys = draw_distinct(DRAW[self.key], self.keys + others, rng)
            values = draw_distinct(DRAW[self.value], own + others, rng)
            more = tuple(map(self.sentence, keys[self.keys :], values[own:]))
            return self._draft(keys[: self.keys], values[:own], LineHaystack(more) if more else shared, rng)

        return draft

    def _draft(
        self, keys: tuple[str, ...], values: tuple[str, ...], haystack: Haystack, rng: random.Random
    ) -> NiahDraft:
        values_of = {key: values[i * self.values : (i + 1) * self.values] for i, key in enumerate(keys)}
        needles = [self.sentence(key, value) for key, of_key in values_of.items() for value in of_key]
        rng.shuffle(needles)
        asked = rng.sample(list(values_of), self.queries)
        return NiahDraft(
            wording=self.wording,
            haystack=haystack,
            needles=tuple(needles),
            depths=haystack.draw_depths(len(needles), rng),
            query=", and ".join(filter(None, (", ".join(asked[:-1]), asked[-1]))),
            outputs=tuple(value for key in asked for value in values_of[key]),
            subjects=tuple(f"for {key} is:" for key in asked),
        )


@dataclass(frozen=True, slots=True)
class NiahDraft:
    """Needles that are drawn; `subjects` are what their sentences say of the keys that are asked for."""

    wording: Wording
    haystack: Haystack
    needles: tuple[str, ...]
    depths: tuple[float, ...]
    query: str
    outputs: tuple[str, ...]
    subjects: tuple[str, ...]
    least: int = 1

    @property
    def most(self) -> int:
        """Units of haystack at most."""
        return self.haystack.most

    def prompt(self, units: int) -> Prompt:
        """The sample with so many units of haystack."""
        document = self.haystack.hide(units, self.needles, self.depths)
        prefix = self.wording.answer_prefix.format(query=self.query)
        return Prompt(self.wording.input(document, query=self.query), prefix, self.outputs)

    def is_sound(self, prompt: Prompt) -> bool:
        """Every answer stands there once, and nothing but the needles speaks of the keys."""
        spoken = len(self.outputs) // len(self.subjects)
        return all(prompt.text.count(output) == 1 for output in self.outputs) and all(
            prompt.text.count(subject) == spoken for subject in self.subjects
        )
