"""Training batches: needles in real text, questions behind it, and gaps in the positions."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import torch

from locret.eval.haystack import EncodedFiller, hide, plain_ids
from locret.eval.needles import (
    Needle,
    Template,
    draw_decoys,
    draw_from,
    draw_needles,
    fill,
    get_template,
    is_held_out,
    templates,
    words,
)
from recipes.builtin.backbone import WINDOW

# How often each kind is drawn; kinds that the first prototype saw too little of come more often.
KIND_WEIGHTS = {"magic": 2.0, "entry": 2.0, "word": 6.0, "record": 4.0, "maps": 2.0}
OTHER_WEIGHT = 0.7
FRAME_WEIGHT = 3.0
PASSKEY_SHARE = 0.5
QUESTION_FIRST_SHARE = 0.1
DOT_WEIGHT = 0.2
# Share of the word values that become made-up words of random tokens.
MADE_UP_SHARE = 0.5
MOST_NEEDLES = 80


@dataclass(frozen=True)
class Batch:
    """One step's sequences, all ``[batch, tokens]``."""

    ids: torch.Tensor
    positions: torch.Tensor
    answer_weight: torch.Tensor
    """Weight of predicting the next token as part of an answer."""
    is_text: torch.Tensor
    """Whether the next token is one of the document's that counts for language modelling."""


@dataclass(frozen=True)
class Mixture:
    """What the sequences of a stage are like."""

    length: int
    repeats: float
    """Share of the questions that only repeat the beginning of the needle's sentence."""
    gaps: float
    """Share of the sequences with gaps in the positions."""
    text_share: float = 0.2


class BatchMaker:
    """Draws batches; its state is the state of ``rng``."""

    def __init__(self, tokenizer: Any, filler: EncodedFiller, rng: random.Random) -> None:
        self.tokenizer = tokenizer
        self.filler = filler
        self.rng = rng
        self.trained = [t for t in templates() if t.trained and t.key != "none"]
        self.weights = [KIND_WEIGHTS.get(t.name, OTHER_WEIGHT) for t in self.trained]
        self.syllables = syllables(tokenizer)

    def batch(self, size: int, mixture: Mixture) -> Batch:
        """A batch of ``size`` sequences."""
        rows = [self._sequence(mixture) for _ in range(size)]
        ids, positions, weights, text = zip(*rows, strict=True)
        return Batch(
            torch.tensor(ids),
            torch.tensor(positions),
            torch.tensor(weights),
            torch.tensor(text),
        )

    def _sequence(self, mixture: Mixture) -> tuple[list[int], list[int], list[float], list[bool]]:
        rng, length = self.rng, mixture.length
        needles = self._needles(length)
        head = [self.tokenizer.bos_token_id]
        if rng.random() < QUESTION_FIRST_SHARE:
            head += plain_ids(self.tokenizer, needles[0].asked + "\n")
        sentences = [plain_ids(self.tokenizer, " " + needle.sentence) for needle in needles]
        room = length - len(head) - sum(map(len, sentences))
        tail: list[int] = []
        tail_weights: list[float] = []
        for needle in needles:
            ids, weights = self._question(needle, rng.random() < mixture.repeats)
            # A fifth of the document at least stays filler.
            if tail and len(tail) + len(ids) > room - length // 5:
                break
            tail += ids
            tail_weights += weights
        if len(tail) >= room:
            return self._sequence(mixture)  # long keys, and no room for a question; draw again
        tail.append(self.tokenizer.eos_token_id)
        tail_weights.append(DOT_WEIGHT)
        decoys = [
            plain_ids(self.tokenizer, " " + text)
            for text in draw_decoys(rng.randint(0, min(20, (room - len(tail)) // 40)), rng)
        ]
        inserted = sentences + decoys
        depths = [rng.random() for _ in inserted]
        document, _ = hide(self.filler, inserted, depths, length - len(head) - len(tail), rng)
        ids = head + document + tail
        # What is predicted at a token is the next one, so weights move one place to the left.
        weights = [0.0] * (len(head) + len(document) - 1) + tail_weights + [0.0]
        begin, end = len(head), len(head) + len(document) - 1
        text = [begin <= i < end and rng.random() < mixture.text_share for i in range(length)]
        with_gaps = rng.random() < mixture.gaps
        return ids, gapped_positions(length, end, rng, with_gaps), weights, text

    def _question(self, needle: Needle, repeat: bool) -> tuple[list[int], list[float]]:
        """A question with its answer, or the needle's sentence again, and the answer's weights."""
        asked = needle.question.partition(" Answer:")[2] if repeat else "\n" + needle.question
        prompt = plain_ids(self.tokenizer, asked)
        answer = plain_ids(self.tokenizer, needle.answer)
        dot = plain_ids(self.tokenizer, ".")
        weights = [0.0] * len(prompt) + [1.0] * len(answer) + [DOT_WEIGHT] * len(dot)
        return prompt + answer + dot, weights

    def _needles(self, length: int) -> list[Needle]:
        """Needles of one kind or of several, and often a pass key among them; in random order."""
        rng = self.rng
        most = max(3, min(MOST_NEEDLES, length // 40))
        count = rng.randint(max(2, most // 3), most)
        needles: list[Needle] = []
        if rng.random() < PASSKEY_SHARE:
            needles += draw_needles("passkey", 1, rng)
        pool, weights = [*self.trained, self._frame()], [*self.weights, FRAME_WEIGHT]
        if rng.random() < 0.6:
            one = rng.choices(pool, weights)[0]
            needles += draw_from(lambda: one, count, rng)
        else:
            needles += draw_from(lambda: rng.choices(pool, weights)[0], count, rng)
        needles = [made_up(needle, self.syllables, rng) for needle in needles]
        # The pass key is asked early, or it would fall to the limit on questions.
        rng.shuffle(needles)
        needles.sort(key=lambda needle: needle.kind == "passkey" and rng.random() < 0.5)
        return needles

    def _frame(self) -> Template:
        """A template of random words, for templates that nobody has thought of."""
        rng = self.rng
        first, second, third = rng.sample(words(), 3)
        value = rng.choice(("digits4", "digits4", "word", "words", "digits3"))
        prefix = rng.choice(
            (
                f"The {first} {second} of {{key}} is",
                f"The {first} {second} for {{key}} is",
                f"{first.capitalize()} {{key}} {third}",
                f"The {first} of {{key}} {third}",
                f"{first.capitalize()} {second} {{key}}:",
            )
        )
        asked = f"What is the {first} {second} of {{key}}?"
        return Template("frame", asked, prefix, "word", value)


def made_up(needle: Needle, parts: list[str], rng: random.Random) -> Needle:
    """The needle with made-up words as its value, for some of those that have words.

    Every token of the vocabulary is copied often then, not only those that the words begin with.
    """
    if needle.kind == "frame" or not needle.value[0].isalpha() or rng.random() >= MADE_UP_SHARE:
        return needle
    drawn = ["".join(rng.choices(parts, k=rng.randint(1, 3))) for _ in needle.value.split()]
    if rng.random() < 0.3:
        drawn = [word.capitalize() for word in drawn]
    if any(map(is_held_out, drawn)):
        return needle
    return fill(get_template(needle.kind), needle.key, " ".join(drawn))


def syllables(tokenizer: Any) -> list[str]:
    """The vocabulary's tokens of two small letters and more, with and without a space before them alike."""
    texts = {tokenizer.decode([token]).strip() for token in range(len(tokenizer))}
    return sorted(text for text in texts if len(text) > 1 and text.isascii() and text.isalpha() and text.islower())


def gapped_positions(length: int, end: int, rng: random.Random, gaps: bool) -> list[int]:
    """Positions 0, 1, 2, ..., with jumps at some places before ``end`` if ``gaps``.

    The jumps (PoSE, arXiv 2309.10400) show the model distances that sequences of this length do
    not have. Together they stay inside the window.
    """
    positions = list(range(length))
    if not gaps or length >= WINDOW:
        return positions
    total = rng.randrange(WINDOW - length)
    places = sorted(rng.sample(range(1, end + 1), rng.randint(1, 6)))
    shares = [rng.random() for _ in places]
    for place, share in zip(places, shares, strict=True):
        jump = int(total * share / sum(shares))
        positions[place:] = [position + jump for position in positions[place:]]
    return positions
