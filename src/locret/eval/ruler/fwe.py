"""Frequent words extraction: coded words whose frequencies fall with their rank."""

from __future__ import annotations

import math
import random
import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from locret.eval.ruler.contract import Drafter, Setup
from locret.eval.ruler.sources import draw_distinct, draw_letters
from locret.eval.ruler.wording import Prompt, Wording

DOTS = "..."  # the most frequent word of all is no word
ASKED = slice(1, 4)
TERMS = 1000  # of the zeta function's sum; the rest is integrated


@dataclass(frozen=True, slots=True)
class FrequentWords:
    """Parameters of frequent words extraction.

    Attributes:
        alpha: how fast frequencies fall: the word of rank k takes `k**-alpha / zeta(alpha)` of the text.
        letters: of a word.
        share: one word of vocabulary for so many tokens of length.
    """

    alpha: float = 2.0
    letters: int = 6
    share: int = 50

    @property
    def wording(self) -> Wording:
        """RULER's words."""
        return Wording(
            "Read the following coded text and track the frequency of each coded word. "
            "Find the three most frequently appeared coded words. ",
            "\nQuestion: Do not provide any explanation. Please ignore the dots '....'. "
            "What are the three most frequently appeared words in the above coded text?",
            " Answer: According to the coded text above, the three most frequently appeared words are:",
        )

    def prepare(self, setup: Setup) -> Drafter:
        """Work out which rank each further word of a text has."""
        vocabulary = max(setup.length // self.share, ASKED.stop + 1)  # a rank must come after those asked for
        ranks = self.ranks(vocabulary, setup.length)
        least = self.least(vocabulary)

        def draft(index: int, rng: random.Random) -> FrequentDraft:
            words = draw_distinct(partial(draw_letters, string.ascii_lowercase, self.letters), vocabulary - 1, rng)
            return FrequentDraft(self.wording, (DOTS, *words), ranks, least, rng.getrandbits(64))

        return draft

    def weights(self, vocabulary: int) -> list[float]:
        """Which part of the text each rank takes."""
        return [k**-self.alpha / zeta(self.alpha) for k in range(1, vocabulary + 1)]

    def ranks(self, vocabulary: int, count: int) -> tuple[int, ...]:
        """Ranks, from 0, of at least `count` words, in the order in which a growing text takes them in.

        A text of n words has `int(n * weight)` of each rank: the m-th of a rank comes in when n is `m / weight`,
        which is in proportion to `m * k**alpha`.
        """
        weights = self.weights(vocabulary)
        size = (count + vocabulary) / sum(weights)  # int() drops less than one word of each rank
        entries = [
            (m * (rank + 1) ** self.alpha, rank)
            for rank, weight in enumerate(weights)
            for m in range(1, int(size * weight) + 1)
        ]
        return tuple(rank for _, rank in sorted(entries))

    def least(self, vocabulary: int) -> int:
        """Words from which on the last rank that is asked for is always ahead of the next."""
        weights = self.weights(vocabulary)
        size = 1 + 1 / (weights[ASKED.stop - 1] - weights[ASKED.stop])
        return sum(int(size * weight) for weight in weights)


@dataclass(frozen=True, slots=True)
class FrequentDraft:
    """A text whose vocabulary is drawn; its unit of haystack is a word of `ranks`."""

    wording: Wording
    vocabulary: tuple[str, ...]
    ranks: Sequence[int]
    least: int
    order: int

    @property
    def most(self) -> int:
        """Units of haystack at most."""
        return len(self.ranks)

    def prompt(self, units: int) -> Prompt:
        """The sample with so many words."""
        words = [self.vocabulary[rank] for rank in self.ranks[:units]]
        random.Random(self.order).shuffle(words)
        return Prompt(self.wording.input(" ".join(words)), self.wording.answer_prefix, self.vocabulary[ASKED])

    def is_sound(self, prompt: Prompt) -> bool:
        """Each of the three is more frequent than the next rank, and stands in the text alone."""
        counts = [prompt.text.count(word) for word in self.vocabulary[ASKED.start : ASKED.stop + 1]]
        listed = prompt.input.removeprefix(self.wording.before).split()
        return counts == sorted(set(counts), reverse=True) and all(
            prompt.text.count(word) == listed.count(word) for word in prompt.outputs
        )


def zeta(alpha: float) -> float:
    """Riemann's zeta function for alpha above 1: a sum, and the Euler-Maclaurin formula for its rest."""
    rest = TERMS ** (1 - alpha) / (alpha - 1) - 0.5 * TERMS**-alpha + alpha / 12 * TERMS ** (-alpha - 1)
    return math.fsum(k**-alpha for k in range(1, TERMS + 1)) + rest
