"""Common words extraction: a numbered list in which ten words stand more often than the others."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from locret.eval.ruler.contract import Drafter, Setup
from locret.eval.ruler.sources import draw_distinct, word_list
from locret.eval.ruler.wording import Prompt, Wording

CONSONANTS, VOWELS = "bdfghklmnprstvz", "aeiou"
SYLLABLES = 4  # of a made-up word


@dataclass(frozen=True, slots=True)
class Repeats:
    """How often words stand in the list, and in the worked example, which has `example_words` words."""

    common: int
    other: int
    example_words: int
    example_common: int
    example_other: int


SHORT, SHORT_REPEATS = 4096, Repeats(6, 1, 20, 3, 1)  # below so many tokens
LONG_REPEATS = Repeats(30, 3, 40, 10, 3)


@dataclass(frozen=True, slots=True)
class CommonWords:
    """Parameters of common words extraction: how many words are common."""

    common: int = 10

    @property
    def wording(self) -> Wording:
        """RULER's words."""
        return Wording(
            "Below is a numbered list of words. In these words, some appear more often than others. "
            "Memorize the ones that appear most often.\n",
            f"\nQuestion: What are the {self.common} most common words in the above list?",
            f" Answer: The top {self.common} words that appear most often in the list are:",
        )

    def prepare(self, setup: Setup) -> Drafter:
        """Choose the words of all lists."""
        repeats = SHORT_REPEATS if setup.length < SHORT else LONG_REPEATS
        # An entry, "1. word", has three tokens at least: no list needs more words than this.
        needed = self.common + repeats.example_words + setup.length // (3 * repeats.other)
        words = _vocabulary(needed)
        wording = self.wording
        candidates = _unmistakable(word_list(), words, wording.before + wording.after + wording.answer_prefix)

        def draft(index: int, rng: random.Random) -> CommonDraft:
            common = tuple(rng.sample(candidates, self.common))
            left = [word for word in rng.sample(words, min(len(words), needed + self.common)) if word not in common]
            shown, others = left[: repeats.example_words], tuple(left[repeats.example_words :])
            example = self._example(shown, repeats, rng)
            return CommonDraft(wording, repeats, example, common, others, rng.getrandbits(64))

        return draft

    def _example(self, words: Sequence[str], repeats: Repeats, rng: random.Random) -> str:
        common, others = words[: self.common], words[self.common :]
        entries = [*common] * repeats.example_common + [*others] * repeats.example_other
        rng.shuffle(entries)
        wording = self.wording
        return f"{wording.input(_numbered(entries))}{wording.answer_prefix} {_numbered(common)}\n"


@dataclass(frozen=True, slots=True)
class CommonDraft:
    """A list whose words are drawn; its unit of haystack is one of `others`, all its repeats."""

    wording: Wording
    repeats: Repeats
    example: str
    common: tuple[str, ...]
    others: tuple[str, ...]
    order: int
    least: int = 1

    @property
    def most(self) -> int:
        """Units of haystack at most."""
        return len(self.others)

    def prompt(self, units: int) -> Prompt:
        """The sample with so many words that are not common."""
        entries = [*self.common] * self.repeats.common + [*self.others[:units]] * self.repeats.other
        random.Random(self.order).shuffle(entries)
        text = self.example + self.wording.input(_numbered(entries))
        return Prompt(text, self.wording.answer_prefix, self.common)

    def is_sound(self, prompt: Prompt) -> bool:
        """The common words stand in the list as often as they should, and nowhere else, not even inside a word."""
        return all(prompt.text.count(word) == self.repeats.common for word in self.common)


def _numbered(words: Sequence[str]) -> str:
    return " ".join(f"{number}. {word}" for number, word in enumerate(words, start=1))


def _vocabulary(count: int) -> tuple[str, ...]:
    """At least `count` words: English ones, and made-up ones where those do not suffice; always the same."""
    words = dict.fromkeys(word_list())
    missing = max(0, count - len(words))
    made_up = draw_distinct(_draw_made_up, missing, random.Random("made-up words"))
    return tuple(words | dict.fromkeys(made_up))


def _draw_made_up(rng: random.Random) -> str:
    """A word that can be spoken."""
    return "".join(rng.choice(CONSONANTS) + rng.choice(VOWELS) for _ in range(SYLLABLES))


def _unmistakable(candidates: Sequence[str], words: Sequence[str], fixed: str) -> list[str]:
    """Those that are part of no other word and not of the fixed text: where one is read, it is meant."""
    parts = {part for word in words for part in _proper_parts(word)}
    return [word for word in candidates if word not in parts and word not in fixed.lower()]


def _proper_parts(word: str) -> Iterator[str]:
    size = len(word)
    return (word[i:j] for i in range(size) for j in range(i + 1, size + 1) if j - i < size)
