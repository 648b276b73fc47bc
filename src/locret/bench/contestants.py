"""Who takes part in a comparison of speed: policies and methods of the engine, plain transformers, and the limit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import DynamicCache

from locret.attention import use_attention
from locret.bench.ring import RingCache
from locret.cache.budget import Budget
from locret.cache.budget_cache import BudgetCache
from locret.cache.plan import chunk_plan
from locret.engine import Engine, Session
from locret.models.families import decoder_of

PLAIN, LIMIT = "transformers", "limit"
Progress = Callable[[int, int], None]


class Contestant(Protocol):
    """Reads prompts and goes on from them.

    Attributes:
        name: what it is called in results.
    """

    name: str

    def check(self, tokens: int) -> None:
        """Refuse prompts and answers of so many tokens together that it could not read and write."""
        ...

    def read(self, ids: Sequence[int], progress: Progress | None = None) -> Any:
        """Read a prompt; gives what `first`, `write` and `kv_bytes` take. It is read when logits are there."""
        ...

    def first(self, state: Any) -> int:
        """The first token of the answer."""
        ...

    def write(self, state: Any, tokens: int) -> None:
        """Write so many tokens, greedily; the first is known, so this takes `tokens - 1` forward passes."""
        ...

    def kv_bytes(self, state: Any) -> int:
        """Bytes of keys and values that are held after reading."""
        ...


@dataclass
class Engined:
    """The engine with one method."""

    name: str
    engine: Engine

    def check(self, tokens: int) -> None:
        """They must fit the model's window, which the engine would say when their turn comes."""
        engine = self.engine
        cache = BudgetCache(engine.model, policy=engine.policy, budget=engine.budget, storage=engine.storage)
        cache.check_window(tokens)

    def read(self, ids: Sequence[int], progress: Progress | None = None) -> Session:
        """Chunk by chunk, with eviction."""
        return self.engine.prefill(ids, progress=progress)

    def first(self, state: Session) -> int:
        """The likeliest."""
        return int(state.logits.argmax())

    def write(self, state: Session, tokens: int) -> None:
        """On a fork of the cache, as always."""
        self.engine.generate(state, max_new_tokens=tokens)

    def kv_bytes(self, state: Session) -> int:
        """As the cache counts them."""
        return state.kv_bytes


@dataclass
class Reading:
    """A prompt that plain transformers has read."""

    cache: Any
    logits: Tensor


@dataclass
class Bare:
    """A plain loop over the model's forward pass, with any cache of transformers: nothing of the engine takes part.

    Attributes:
        name: what it is called in results.
        model: a causal language model.
        budget: says in which pieces is read.
        new_cache: makes an empty cache.
        attention: registered attention; None for the model's own.
    """

    name: str
    model: Any
    budget: Budget
    new_cache: Callable[[], Any]
    attention: str | None = None

    def check(self, tokens: int) -> None:
        """Nothing here looks at the model's window."""

    @torch.no_grad()
    def read(self, ids: Sequence[int], progress: Progress | None = None) -> Reading:
        """In the same pieces as the engine; logits of the last position only."""
        cache, done, logits = self.new_cache(), 0, torch.empty(0)
        keep_from_here = getattr(cache, "keep_from_here", lambda: None)
        decoder, tokens = decoder_of(self.model), torch.tensor([list(ids)])
        with use_attention(self.model, self.attention):
            for piece in chunk_plan(0, len(ids), len(ids), self.budget):
                if done == len(ids) - self.budget.local:
                    keep_from_here()
                part = tokens[:, done : done + piece].to(self.model.device)
                done += piece
                if done < len(ids):
                    decoder(input_ids=part, past_key_values=cache, use_cache=True)
                else:
                    output = self.model(input_ids=part, past_key_values=cache, use_cache=True, logits_to_keep=1)
                    logits = output.logits[0, -1].float()
                if progress:
                    progress(done, len(ids))
        keep_from_here()
        return Reading(cache, logits)

    def first(self, state: Reading) -> int:
        """The likeliest."""
        return int(state.logits.argmax())

    @torch.no_grad()
    def write(self, state: Reading, tokens: int) -> None:
        """On the cache itself, which grows."""
        logits = state.logits
        with use_attention(self.model, self.attention):
            for _ in range(tokens - 1):
                latest = logits.argmax().view(1, 1)
                output = self.model(input_ids=latest, past_key_values=state.cache, use_cache=True)
                logits = output.logits[0, -1].float()

    def kv_bytes(self, state: Reading) -> int:
        """Of all layers."""
        cache = state.cache
        if cache_bytes := getattr(cache, "kv_bytes", None):
            return int(cache_bytes)
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)


def plain(model: Any, budget: Budget) -> Bare:
    """Transformers' own full attention, read in chunks."""
    return Bare(PLAIN, model, budget, lambda: DynamicCache(config=model.config))


def limit(model: Any, budget: Budget, new_tokens: int) -> Bare:
    """The same chunks in the same memory with the same attention, and an eviction that costs next to nothing."""
    tail = budget.local + new_tokens
    return Bare(LIMIT, model, budget, lambda: RingCache(model.config, budget, tail), "split")
