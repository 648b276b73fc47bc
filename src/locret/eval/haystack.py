"""Haystacks: real text of a given number of tokens with needles and decoys in it."""

from __future__ import annotations

import random
import re
import weakref
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from locret.errors import LocretError
from locret.eval.benchmarks.jsonl import read_jsonl
from locret.eval.needles import Needle, draw_decoys, draw_needles
from locret.models.tokens import beginning_of_text
from locret.texts import read_text

PIECE_WORDS = 12
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
MARKUP = re.compile(r"\*\*|``?|\\|[=~^*-]{4,}|:[a-z]+:")


@dataclass(frozen=True)
class EncodedFiller:
    """A filler in one tokenizer's ids, with the places where a sentence can go in between."""

    ids: Sequence[int]
    starts: Sequence[int]

    def take(self, first: int, count: int) -> tuple[list[int], list[int]]:
        """``count`` ids from piece ``first`` on, wrapping round, and the cuts among them.

        Cuts are places in the taken ids, from 0 to ``count``, where a piece begins.
        """
        taken: list[int] = []
        cuts: list[int] = []
        begin, piece = self.starts[first], first
        while len(taken) < count:
            # One round of the loop copies up to the filler's end, or to what is still wanted.
            end = min(len(self.ids), begin + count - len(taken))
            shift = len(taken) - begin
            last = bisect_left(self.starts, end)
            cuts.extend(start + shift for start in self.starts[piece:last])
            taken.extend(self.ids[begin:end])
            begin, piece = 0, 0
        return taken, [*cuts, count]


class Filler:
    """Text to hide needles in, cut into pieces at sentence ends and after every dozen words."""

    def __init__(self, text: str) -> None:
        self.pieces = tuple(_pieces(text))
        if not self.pieces:
            raise LocretError("the filler has no text")
        self._encoded: weakref.WeakKeyDictionary[Any, EncodedFiller] = weakref.WeakKeyDictionary()

    @classmethod
    def python_reference(cls) -> Filler:
        """The language reference that ships with every Python (``pydoc_data.topics``)."""
        from pydoc_data.topics import topics

        return cls(MARKUP.sub("", "\n".join(topics[name] for name in sorted(topics))))

    @classmethod
    def from_file(cls, path: str | Path) -> Filler:
        """A filler from plain text, or from JSON lines with a ``text`` field; gzipped or not.

        Raises:
            LocretError: the file cannot be read, is not text, or a line has no such field.
        """
        path = Path(path)
        if ".jsonl" in path.suffixes:
            return cls("\n".join(record.text("text") for record in read_jsonl(path)))
        return cls(read_text(path))

    def encode(self, tokenizer: Any) -> EncodedFiller:
        """The filler in a tokenizer's ids, names of control tokens as text; worked out once for each tokenizer."""
        if tokenizer not in self._encoded:
            pieces = tokenizer(list(self.pieces), add_special_tokens=False, split_special_tokens=True)["input_ids"]
            ids: list[int] = []
            starts: list[int] = []
            for piece in pieces:
                starts.append(len(ids))
                ids.extend(piece)
            self._encoded[tokenizer] = EncodedFiller(ids, starts)
        return self._encoded[tokenizer]


@dataclass(frozen=True)
class Context:
    """A document with needles in it: ``positions`` are where their sentences begin, in tokens."""

    document: str
    document_ids: tuple[int, ...]
    needles: tuple[Needle, ...]
    positions: tuple[int, ...]
    decoys: tuple[str, ...] = ()


def build_context(
    tokenizer: Any,
    filler: Filler,
    kind: str,
    length: int,
    count: int,
    rng: random.Random,
    decoys: int = 0,
    keys: str = "trained",
    depths: Sequence[float] | None = None,
) -> Context:
    """A document of exactly ``length`` tokens that hides ``count`` needles and ``decoys`` decoys.

    The document begins with the BOS token where the tokenizer puts one before every text. ``depths`` (0 to 1, one a
    needle) fixes where the needles go, to the nearest cut of the filler; otherwise it is random.
    """
    needles = draw_needles(kind, count, rng, keys)
    if depths is not None and len(depths) != count:
        raise LocretError(f"{count} needles need {count} depths, not {len(depths)}")
    decoy_texts = draw_decoys(decoys, rng, keys)
    where = [rng.random() for _ in needles] if depths is None else list(depths)
    where += [rng.random() for _ in decoy_texts]
    inserted = [plain_ids(tokenizer, " " + needle.sentence) for needle in needles]
    inserted += [plain_ids(tokenizer, " " + text) for text in decoy_texts]
    bos = beginning_of_text(tokenizer)
    body, begins = hide(filler.encode(tokenizer), inserted, where, length - len(bos), rng)
    ids = bos + body
    return Context(
        document=tokenizer.decode(ids, skip_special_tokens=True),
        document_ids=tuple(ids),
        needles=tuple(needles),
        positions=tuple(begin + len(bos) for begin in begins[:count]),
        decoys=tuple(decoy_texts),
    )


def hide(
    filler: EncodedFiller,
    inserted: Sequence[Sequence[int]],
    depths: Sequence[float],
    length: int,
    rng: random.Random,
) -> tuple[list[int], list[int]]:
    """Put token sequences into filler so that ``length`` ids come out.

    Returns the ids, and where each inserted sequence begins among them.
    """
    room = length - sum(map(len, inserted))
    if room < 0:
        raise LocretError(f"{length} tokens are too few for the needles: {-room} more are needed")
    return insert(*filler.take(rng.randrange(len(filler.starts)), room), inserted, depths, rng)


def insert(
    text: Sequence[int],
    cuts: Sequence[int],
    inserted: Sequence[Sequence[int]],
    depths: Sequence[float],
    rng: random.Random,
) -> tuple[list[int], list[int]]:
    """Put token sequences into a text at those of its cuts that are nearest to the depths, 0 to 1.

    Returns the ids, and where each inserted sequence begins among them.
    """
    places = [cuts[_nearest(cuts, depth * len(text))] for depth in depths]
    # Ties keep a random order, so that needles at one cut are not always in the order drawn.
    order = sorted(range(len(inserted)), key=lambda i: (places[i], rng.random()))
    ids: list[int] = []
    begins = [0] * len(inserted)
    done = 0
    for i in order:
        ids.extend(text[done : places[i]])
        begins[i] = len(ids)
        ids.extend(inserted[i])
        done = places[i]
    ids.extend(text[done:])
    return ids, begins


def question_ids(tokenizer: Any, needle: Needle, separator: str = "\n") -> list[int]:
    """What follows the document: a separator, the question, and the answer's beginning."""
    return plain_ids(tokenizer, separator + needle.question)


def answer_ids(tokenizer: Any, needle: Needle) -> list[int]:
    """The tokens that must follow the question."""
    return plain_ids(tokenizer, needle.answer)


def prompt_ids(tokenizer: Any, context: Context, needle: Needle, question_first: bool = False) -> list[int]:
    """The whole prompt: the document and the question, which may also stand before it."""
    document = list(context.document_ids)
    if question_first:
        bos = len(beginning_of_text(tokenizer))
        document[bos:bos] = plain_ids(tokenizer, needle.asked + "\n")
    return document + question_ids(tokenizer, needle)


def plain_ids(tokenizer: Any, text: str) -> list[int]:
    """The ids of a text without special tokens."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def text_ids(tokenizer: Any, text: str) -> list[int]:
    """The ids of a text of other people's: names of control tokens in it (`<|im_end|>`) are text like any other."""
    return list(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])


def said_ids(tokenizer: Any, said: str, following: str) -> list[int]:
    """The ids of a text of other people's with a part of a chat behind it, tokenised at once where that is safe.

    Where the text holds names of control tokens, the two are tokenised one by one.
    """
    literal = text_ids(tokenizer, said)
    if literal == plain_ids(tokenizer, said):
        return plain_ids(tokenizer, said + following)
    return literal + plain_ids(tokenizer, following)


def _pieces(text: str) -> Iterable[str]:
    """Sentences, and parts of long ones, each with the space before it."""
    for sentence in SENTENCE_END.split(text):
        words = sentence.split()
        for i in range(0, len(words), PIECE_WORDS):
            yield " " + " ".join(words[i : i + PIECE_WORDS])


def _nearest(cuts: Sequence[int], place: float) -> int:
    """The index of the cut that is nearest to ``place``."""
    right = min(bisect_left(cuts, place), len(cuts) - 1)
    if right and place - cuts[right - 1] <= cuts[right] - place:
        return right - 1
    return right
