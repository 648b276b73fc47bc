"""Decoding from a static cache, with and without CUDA graphs, beside the engine.

What is kept fits transformers' static cache as it is: keys are rotated already, so a unit may be in any slot. The
engine itself does not decode this way; this says what it would gain.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import StaticCache

import locret
from benchmarks.gpu.models import engine_of, large_model, random_ids
from benchmarks.gpu.run import Row, message
from benchmarks.gpu.setting import Setting
from locret.bench.measure import synchronise
from locret.bench.roofline import decode_seconds
from locret.plan import sizes_of

Step = Callable[[Tensor, Tensor, StaticCache], Tensor]


def graphs(setting: Setting, shape: str) -> Row:
    """Tokens a second, three ways. Compiling may fail; that is said, and fails nothing else."""
    model, heads = large_model(setting, shape)
    engine = engine_of(model, "locret", setting.budget, heads)
    session = engine.prefill(random_ids(setting.short, model.config.vocab_size))
    tokens = setting.new_tokens
    engine.generate(session, max_new_tokens=4)
    result = engine.generate(session, max_new_tokens=tokens)
    ways = [{"name": "engine", "tokens_per_second": (tokens - 1) / result.stats.decode_seconds, "same_tokens": tokens}]
    locret.detach(model)  # hooks would break the graph; a static cache needs none of them
    step = make_step(model)
    ways.append({"name": "static cache", **_timed(step, model, session, result.token_ids, setting)})
    ways.append({"name": "static cache, CUDA graphs", **_graphed(step, model, session, result.token_ids, setting)})
    least = decode_seconds(sizes_of(model.config), setting.machine, setting.dtype.itemsize, session.kv_bytes)
    return {"kept": session.cache.stored, "new_tokens": tokens, "roofline_tokens_per_second": 1 / least, "ways": ways}


def make_step(model: Any) -> Step:
    """One token: its successor [1, 1], likeliest."""

    @torch.no_grad()
    def step(token: Tensor, position: Tensor, cache: StaticCache) -> Tensor:
        output = model(input_ids=token, position_ids=position, past_key_values=cache, use_cache=True)
        return output.logits[:, -1].argmax(dim=-1, keepdim=True)

    return step


def static_copy(session: locret.Session, model: Any, room: int) -> StaticCache:
    """What a session keeps, in a static cache with room for so many units more."""
    cache = StaticCache(config=model.config, max_cache_len=session.cache.stored + room)
    for layer, kept in zip(cache.layers, session.cache.layers, strict=True):
        layer.update(*kept.storage.read())
    return cache


def write(step: Step, cache: StaticCache, session: locret.Session, tokens: int) -> tuple[list[int], float]:
    """Greedy tokens from a session with true positions, and the seconds after the first.

    Args:
        step: gives a token's successor.
        cache: a `static_copy`; whatever has been written to it before is forgotten.
        session: what it is a copy of.
        tokens: how many.
    """
    for layer in cache.layers:
        layer.cumulative_length.fill_(session.cache.stored)
    token = session.logits.argmax().view(1, 1)
    position = torch.full_like(token, session.tokens_seen)
    written = [token]
    synchronise(token.device)
    began = time.perf_counter()
    for _ in range(tokens - 1):
        torch.compiler.cudagraph_mark_step_begin()
        token = step(token, position, cache).clone()  # a graph writes its result to the same place every time
        position += 1
        written.append(token)
    synchronise(token.device)
    return torch.cat(written).flatten().tolist(), time.perf_counter() - began


def _graphed(step: Step, model: Any, session: locret.Session, expected: list[int], setting: Setting) -> dict[str, Any]:
    if not setting.cuda:
        return {"tokens_per_second": None, "error": "no CUDA device"}
    try:
        return _timed(torch.compile(step, mode="reduce-overhead"), model, session, expected, setting)
    except Exception as error:  # a compiler that gives up is a result
        return {"tokens_per_second": None, "error": message(error)}


def _timed(step: Step, model: Any, session: locret.Session, expected: list[int], setting: Setting) -> dict[str, Any]:
    """The last run is timed: the first ones compile and record, for the addresses of this very cache."""
    cache = static_copy(session, model, setting.new_tokens)
    for _ in range(2):
        write(step, cache, session, setting.new_tokens)
    written, seconds = write(step, cache, session, setting.new_tokens)
    same = next((i for i, (a, b) in enumerate(zip(written, expected, strict=True)) if a != b), len(expected))
    return {"tokens_per_second": (len(written) - 1) / seconds, "same_tokens": same}
