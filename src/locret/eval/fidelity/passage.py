"""One document with the continuations that are forced on it."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from locret.errors import LocretError
from locret.eval.fidelity.continuations import NAMES, TEXT_TOKENS, Continuation, answered, going_on, repeated
from locret.eval.fidelity.facts import FACTS, draw_facts
from locret.eval.frame import turns_of
from locret.eval.haystack import EncodedFiller, Filler, insert, plain_ids
from locret.eval.needles import Needle

PIECE = 32  # tokens a piece of a filler seldom exceeds; a document may begin so much later than its place does


@dataclass(frozen=True, slots=True)
class ForcedPassage:
    """A document to be read once, and what is forced on it.

    Attributes:
        index: which of all documents of this length.
        ids: what is read: the BOS token or the beginning of a chat, and the document.
        continuations: "facts", "repeat" and "text", or those of them that were wanted, each to be put on the document
            itself.
        facts: hidden in it, in the order in which they are asked for.
        positions: where their sentences begin, in tokens of `ids`.
    """

    index: int
    ids: tuple[int, ...]
    continuations: Mapping[str, Continuation]
    facts: tuple[Needle, ...]
    positions: tuple[int, ...]


def build_passage(
    tokenizer: Any,
    filler: Filler,
    length: int,
    index: int,
    chat: bool = False,
    facts: int = FACTS,
    wanted: Collection[str] = NAMES,
) -> ForcedPassage:
    """Make a document of exactly `length` tokens, what stands before it not counted, and its continuations.

    Args:
        tokenizer: of the model.
        filler: real text; facts are hidden in it.
        length: tokens of the document.
        index: which document. Documents of different indices come from different places of the filler, without
            overlap as long as it has place for them.
        chat: whether the document stands in the user's turn of the tokenizer's chat template.
        facts: how many are hidden.
        wanted: names of continuations to be made; "repeat" alone needs text with blanks between its words.

    Raises:
        LocretError: the document is too short for the facts or the filler for the document, no passage can be repeated,
            a continuation is unknown, or a chat is wanted of a tokenizer that has none.
    """
    for name in wanted:
        if name not in NAMES:
            raise LocretError(f"unknown continuation {name!r}: choose from {', '.join(NAMES)}")
    rng = random.Random(f"fidelity/{length}/{index}")
    turns = turns_of(tokenizer, chat)
    needles = draw_facts(facts, rng)
    sentences = [plain_ids(tokenizer, " " + needle.sentence) for needle in needles]
    room = length - sum(map(len, sentences))
    if room < length // 4:
        raise LocretError(
            f"{facts} facts take {length - room} of the document's {length} tokens: give a length of at least "
            f"{-(-4 * (length - room) // 3)}"
        )
    encoded = filler.encode(tokenizer)
    if length + TEXT_TOKENS > len(encoded.ids):
        raise LocretError(
            f"the filler has {len(encoded.ids)} tokens, a document with what follows it takes {length + TEXT_TOKENS}: "
            "give a longer one or a smaller length"
        )
    text, cuts = encoded.take(place_of(encoded, length + TEXT_TOKENS, index), room + TEXT_TOKENS)
    before = [cut for cut in cuts if cut <= room]
    body, begins = insert(text[:room], before, sentences, [rng.random() for _ in needles], rng)
    makers = (
        lambda: answered(tokenizer, turns, needles),
        lambda: repeated(tokenizer, turns, tokenizer.decode(body, skip_special_tokens=True), needles, rng),
        lambda: going_on(text[room:]),
    )
    return ForcedPassage(
        index=index,
        ids=(*turns.head, *body),
        continuations={name: make() for name, make in zip(NAMES, makers, strict=True) if name in wanted},
        facts=tuple(needles),
        positions=tuple(len(turns.head) + begin for begin in begins),
    )


def place_of(filler: EncodedFiller, tokens: int, index: int) -> int:
    """The piece that text number `index` of so many tokens begins with.

    The filler is divided into as many equal places as it has room for, which are taken in a shuffled order. When all
    are taken, it begins again, a part of a place further on.
    """
    places = max(1, len(filler.ids) // (tokens + PIECE))
    step = len(filler.ids) // places
    order = random.Random(f"places {places}").sample(range(places), places)
    round_, turn = divmod(index, places)
    shift = int(step * (round_ * 0.618) % step)  # the golden ratio's parts never repeat
    return bisect_left(filler.starts, (order[turn] * step + shift)) % len(filler.starts)
