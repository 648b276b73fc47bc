"""Continuations that are forced on a document, and which of their tokens are measured."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from locret.errors import LocretError
from locret.eval.frame import Turns
from locret.eval.haystack import plain_ids, said_ids, text_ids
from locret.eval.needles import Needle
from locret.models.tokens import shared_beginning

FACTS, REPEAT, TEXT = NAMES = ("facts", "repeat", "text")
TEXT_TOKENS = 64  # measured, of a text that goes on
REPEAT_TOKENS = 56  # measured, of a passage that is repeated
GIVEN_WORDS = 8  # that such a passage begins with, and that the request names
REPEAT_WORDS = 80  # words with more than `REPEAT_TOKENS` tokens
SENTENCE_START = re.compile(r"(?<=[.!?]) (?=\w)")


@dataclass(frozen=True, slots=True)
class Continuation:
    """Tokens that follow a document.

    Attributes:
        name: "facts", "repeat" or "text".
        ids: all tokens, to be read on top of the document.
        measured: for each of them whether its prediction is measured.
    """

    name: str
    ids: tuple[int, ...]
    measured: tuple[bool, ...]

    @property
    def targets(self) -> tuple[int, ...]:
        """The measured tokens."""
        return tuple(token for token, counts in zip(self.ids, self.measured, strict=True) if counts)


def going_on(following: Sequence[int]) -> Continuation:
    """The text goes on, inside the same turn of a chat; every token is measured."""
    return Continuation(TEXT, tuple(following), (True,) * len(following))


def answered(tokenizer: Any, turns: Turns, facts: Sequence[Needle]) -> Continuation:
    """Questions with their true answers, a turn each; the values are measured."""
    parts: list[tuple[int, bool]] = []
    for number, fact in enumerate(facts):
        asked = turns.asked(fact.asked.removeprefix("Question: "), first=number == 0)
        parts += ((token, False) for token in plain_ids(tokenizer, asked))
        said = fact.sentence.partition(fact.answer)[0]
        parts += _answer(tokenizer, turns.lead + said, fact.answer, fact.sentence.removeprefix(said + fact.answer))
    return _joined(FACTS, parts)


def repeated(tokenizer: Any, turns: Turns, document: str, facts: Sequence[Needle], rng: random.Random) -> Continuation:
    """A request to repeat a passage that begins with some words, and the passage; what follows the words is measured.

    Raises:
        LocretError: the document is too short, or has no blanks between its words.
    """
    given, rest = _passage(document, [fact.sentence for fact in facts], rng)
    request = f'{turns.question}Repeat word for word the passage of the text above that begins with "{given}".'
    parts = [(token, False) for token in said_ids(tokenizer, request, turns.answer)]
    parts += _answer(tokenizer, turns.lead + given, " " + rest, "", REPEAT_TOKENS)
    return _joined(REPEAT, parts)


def _joined(name: str, parts: Sequence[tuple[int, bool]]) -> Continuation:
    return Continuation(name, tuple(token for token, _ in parts), tuple(counts for _, counts in parts))


def _answer(
    tokenizer: Any, before: str, value: str, after: str, limit: int | None = None
) -> Iterator[tuple[int, bool]]:
    """An answer, tokenised at once, with whether its tokens are of the value; `limit` tokens of that at most."""
    whole = text_ids(tokenizer, before + value + after)
    begin = shared_beginning(whole, text_ids(tokenizer, before))
    end = max(shared_beginning(whole, text_ids(tokenizer, before + value)), begin + 1)
    stop = len(whole) if limit is None else begin + limit
    return ((token, begin <= at < end) for at, token in enumerate(whole[:stop]))


def _passage(document: str, avoided: Sequence[str], rng: random.Random) -> tuple[str, str]:
    """The first words of a passage of the document, and its rest.

    If possible it is one that begins like no other, and holds nothing of what is to be avoided.
    """
    places = [found.end() for found in SENTENCE_START.finditer(document)] or [0]
    rng.shuffle(places)
    passages = [words for at in places if len(words := document[at:].split(" ", REPEAT_WORDS)) > REPEAT_WORDS]
    if not passages:
        raise LocretError(
            f"no sentence of the document has {REPEAT_WORDS} words, parted by blanks, behind it: give a greater "
            f"length, or leave {REPEAT} out where the filler is written without blanks"
        )
    parted = [(" ".join(words[:GIVEN_WORDS]), " ".join(words[GIVEN_WORDS:-1])) for words in passages]

    def faults(one: tuple[str, str]) -> tuple[bool, int]:
        return any(text in " ".join(one) for text in avoided), document.count(one[0])

    return min(parted, key=faults)
