"""Decoding: one token at a time, until a stop token, a stop string or the limit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessorList

from locret.cache.budget_cache import BudgetCache
from locret.engine.detokenize import Detokenizer
from locret.engine.sampling import Sampling
from locret.errors import LocretError
from locret.values import check_whole


def stop_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """End-of-sequence tokens of the model's generation configuration and of the tokenizer.

    Raises:
        LocretError: the configuration names something that is no token id.
    """
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ids = configured if isinstance(configured, list) else [configured]
    ends = [end for end in (*ids, getattr(tokenizer, "eos_token_id", None)) if end is not None]
    for end in ends:
        check_whole("eos_token_id of the model's generation configuration", end, -1)  # some say -1 for none
    return frozenset(ends)


def stop_strings(stop: str | Sequence[str] | None) -> tuple[str, ...]:
    """What `stop` says: one string is one stop, not a list of its characters.

    Raises:
        LocretError: one of them is empty, which would end every answer before it begins, or is no string.
    """
    stops = (stop,) if isinstance(stop, str) else tuple(stop or ())
    for one in stops:
        if not isinstance(one, str) or not one:
            raise LocretError(f"a stop string is {one!r}: give text of at least one character, or leave it out")
    return stops


@torch.no_grad()
def decode(
    model: Any,
    cache: BudgetCache,
    logits: Tensor,
    seen: Tensor,
    *,
    limit: int,
    stops: frozenset[int],
    sampling: Sampling,
    processors: LogitsProcessorList,
) -> Iterator[tuple[int, Tensor]]:
    """Generate tokens; the cache grows with all but the last one.

    Args:
        model: the language model.
        cache: what has been read; changed.
        logits: [vocab], the prediction after it.
        seen: [1, tokens], what was read.
        limit: tokens at most.
        stops: tokens that end the answer (they are given out, too).
        sampling: how to choose.
        processors: applied to the logits, before those of `sampling`.

    Yields:
        Each token with the logits [vocab] that chose it.

    Raises:
        LocretError: logits are no numbers.
    """
    every = LogitsProcessorList([*processors, *sampling.processors()])
    generator = sampling.generator(logits.device)
    seen = seen.to(logits.device)
    for step in range(limit):
        token = sampling.choose(logits, seen, every, generator)
        yield token, logits
        if token in stops or step + 1 == limit:
            return
        latest = torch.tensor([[token]], device=seen.device)
        if every:  # nobody else looks at what came before, and copying it takes longer after a longer prompt
            seen = torch.cat([seen, latest], dim=-1)
        output = model(input_ids=latest, past_key_values=cache, use_cache=True)
        logits = output.logits[0, -1].float()


@dataclass
class Transcript:
    """The text of an answer under way, held back where it may be the beginning of a stop string.

    Attributes:
        detokenizer: turns tokens into text.
        stops: strings that end the answer; they are not part of it.
        text: what has been given out.
        stopped: a stop string has been met.
    """

    detokenizer: Detokenizer
    stops: Sequence[str] = ()
    text: str = ""
    stopped: bool = False
    _held: str = field(default="", repr=False)

    def push(self, token: int) -> str:
        """Add a token; returns the text that is certain now."""
        return self._release(self.detokenizer.push(token), final=False)

    def finish(self) -> str:
        """The answer is over: returns what was held back."""
        return "" if self.stopped else self._release(self.detokenizer.flush(), final=True)

    def _release(self, piece: str, *, final: bool) -> str:
        held = self._held + piece
        found = [at for stop in self.stops if (at := held.find(stop)) >= 0]
        if found:
            self.stopped, ready, self._held = True, held[: min(found)], ""
        else:
            keep = 0 if final else max((_overlap(held, stop) for stop in self.stops), default=0)
            ready, self._held = held[: len(held) - keep], held[len(held) - keep :]
        self.text += ready
        return ready


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if stop.startswith(text[-n:])), 0)
