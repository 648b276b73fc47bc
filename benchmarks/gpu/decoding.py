"""Decoding in static shapes, on CUDA by a recorded graph, beside the engine's own way of appending to its cache."""

from __future__ import annotations

from benchmarks.gpu.models import engine_of, large_model, random_ids
from benchmarks.gpu.run import Row
from benchmarks.gpu.setting import Setting
from locret.bench.roofline import decode_seconds
from locret.plan import sizes_of


def decoding(setting: Setting, shape: str) -> Row:
    """Tokens a second, both ways, of the second answer: the first warms up, and records."""
    model, heads = large_model(setting, shape)
    engines = {
        name: engine_of(model, "locret", setting.budget, heads, static)
        for name, static in (("engine", False), ("engine, static", True))
    }
    session = engines["engine"].prefill(random_ids(setting.short, model.config.vocab_size))
    results = {
        name: [engine.generate(session, setting.new_tokens) for _ in range(2)] for name, engine in engines.items()
    }
    expected = results["engine"][-1].token_ids
    ways = [
        {
            "name": name,
            "tokens_per_second": (setting.new_tokens - 1) / last.stats.decode_seconds,
            # Both round differently in bf16, so tokens may part somewhere.
            "same_tokens": _same(last.token_ids, expected),
        }
        for name, (_, last) in results.items()
    ]
    least = decode_seconds(sizes_of(model.config), setting.machine, setting.dtype.itemsize, session.kv_bytes)
    return {
        "kept": session.cache.stored,
        "new_tokens": setting.new_tokens,
        "roofline_tokens_per_second": 1 / least,
        "ways": ways,
    }


def _same(tokens: list[int], expected: list[int]) -> int:
    """How many tokens are the same from the beginning on."""
    return next((at for at, pair in enumerate(zip(tokens, expected, strict=True)) if len(set(pair)) > 1), len(expected))
