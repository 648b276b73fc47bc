"""Text as token ids, tokenised at once, with the places where it is to be cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from operator import eq
from typing import Any


@dataclass(frozen=True, slots=True)
class Tokens:
    """The ids of a text, and where they are to be cut.

    Attributes:
        ids: of the whole text.
        cuts: for each place that was asked for, how many of the first ids end at or before it. A token that straddles
            a place goes with what follows.
    """

    ids: list[int]
    cuts: list[int]


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a text.

    Attributes:
        text: the part.
        literal: whether names of control tokens in it (`</s>`, `<|im_end|>`) are text like any other.
    """

    text: str
    literal: bool = False


def beginning_of_text(tokenizer: Any) -> list[int]:
    """The token that the tokenizer puts before every text (BOS), if it does; some have one and put it nowhere."""
    leading = list(tokenizer("")["input_ids"][:1])
    return leading if leading == [tokenizer.bos_token_id] else []


def shared_beginning(one: Sequence[int], other: Sequence[int]) -> int:
    """How many ids both begin with."""
    return sum(1 for _ in takewhile(bool, map(eq, one, other)))


def tokenise(
    tokenizer: Any, stretches: Sequence[Stretch], places: Sequence[int] = (), add_special_tokens: bool = False
) -> Tokens:
    """The ids of a text, and its cuts.

    Args:
        tokenizer: any of transformers.
        stretches: the text, in parts that can be tokenised one by one; a whole text is a single one.
        places: offsets in characters in the whole text.
        add_special_tokens: whether the tokenizer puts its own around the text (BOS); only a whole text can have them.
    """
    ids: list[int] = []
    cuts = [0] * len(places)
    begin = 0
    for stretch in stretches:
        inside = [min(max(place - begin, 0), len(stretch.text)) for place in places]
        one = _tokenised(tokenizer, stretch, inside, add_special_tokens)
        ids += one.ids
        cuts = [before + here for before, here in zip(cuts, one.cuts, strict=True)]
        begin += len(stretch.text)
    return Tokens(ids, cuts)


def _tokenised(tokenizer: Any, stretch: Stretch, places: Sequence[int], add_special_tokens: bool) -> Tokens:
    options: dict[str, Any] = {"add_special_tokens": add_special_tokens}
    if stretch.literal:
        options["split_special_tokens"] = True
    if not tokenizer.is_fast:
        return _by_common_start(tokenizer, stretch.text, places, options)
    encoded = tokenizer(stretch.text, return_offsets_mapping=True, **options)
    ends = [end for _, end in encoded["offset_mapping"]]
    past = [next((i for i, end in enumerate(ends) if end > place), len(ends)) for place in places]
    return Tokens(list(encoded["input_ids"]), past)


def _by_common_start(tokenizer: Any, text: str, places: Sequence[int], options: dict[str, Any]) -> Tokens:
    """Cuts without offsets: tokens with which the text up to the place begins, too, cannot reach beyond it.

    Where the text is tokenised otherwise just before the place than it is alone, the cut lies some tokens earlier.
    """
    ids = list(tokenizer(text, **options)["input_ids"])
    starts = [list(tokenizer(text[:place], **options)["input_ids"]) if place else [] for place in places]
    return Tokens(ids, [shared_beginning(ids, start) for start in starts])
