"""The reading plan: into which chunks a prompt is cut, and what eviction follows each of them."""

from __future__ import annotations

from enum import Enum

from locret.cache.budget import Budget

# A pass of at most so many tokens (and of one chunk) after a prompt is decoding, as assisted generation verifies
# several tokens at once.
DECODED_AT_ONCE = 32


class Stage(Enum):
    """What a forward pass is to the prompt, and so how the cache is cut after it."""

    MIDDLE = "a chunk that more chunks follow: cut, the newest units protected"
    LAST = "the last chunk before the local tail: cut by score alone"
    KEEP = "the local tail, or a decoded token: nothing is cut"


def stage_of(end: int, new: int, prompt_length: int | None, budget: Budget) -> Stage:
    """The stage of a forward pass of `new` tokens that ends at prompt position `end`.

    Without a known prompt length every pass of several tokens is a middle chunk and a single token is decoding.
    """
    if prompt_length is None:
        return Stage.MIDDLE if new > 1 else Stage.KEEP
    body = prompt_length - budget.local
    if end < body:
        return Stage.MIDDLE
    return Stage.LAST if end == body else Stage.KEEP


def chunk_plan(start: int, end: int, prompt_length: int | None, budget: Budget) -> list[int]:
    """Lengths of the pieces in which the tokens from `start` to `end` are read.

    Pieces are `chunk` long; the local tail of a prompt of known length is a piece of its own.

    >>> chunk_plan(0, 300, 300, Budget(size=60, chunk=64, stabilizers=20, local=10))
    [64, 64, 64, 64, 34, 10]
    """
    tail = end if prompt_length is None else min(end, max(start, prompt_length - budget.local))
    pieces = [min(budget.chunk, tail - at) for at in range(start, tail, budget.chunk)]
    pieces += [min(budget.chunk, end - at) for at in range(tail, end, budget.chunk)]
    return pieces
