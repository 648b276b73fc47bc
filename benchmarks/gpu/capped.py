"""Reading a long prompt in a fixed amount of memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from benchmarks.gpu.models import engine_of, large_model, random_ids
from benchmarks.gpu.run import Row, free
from benchmarks.gpu.setting import Setting
from locret.bench.measure import synchronise
from locret.bench.memory import peak_bytes, reset_peak
from locret.plan import estimate, setting_of


def capped(setting: Setting, shape: str) -> Row:
    """A large model reads and answers under the cap; beyond it the allocator refuses, and the check fails."""
    free(setting)
    with cap(setting):
        reset_peak(setting.device)
        model, heads = large_model(setting, shape)
        engine = engine_of(model, "locret", setting.budget, heads)
        synchronise(setting.device)
        began = time.perf_counter()
        session = engine.prefill(random_ids(setting.length, model.config.vocab_size))
        synchronise(setting.device)
        seconds, reading = time.perf_counter() - began, peak_bytes(setting.device)
        engine.generate(session, max_new_tokens=setting.new_tokens)
        synchronise(setting.device)
        peak, reserved = peak_bytes(setting.device), _reserved(setting)
    planned = estimate(
        setting_of(
            model.config, dtype=str(setting.dtype).removeprefix("torch."), policy="locret", width=setting.width,
            cuda=setting.cuda,
        ),
        setting.length,
        setting.budget,
    )  # fmt: skip
    return {
        "passed": reserved is None or reserved <= setting.cap_bytes,
        "tokens": session.tokens_seen,
        "kept": session.cache.stored,
        "prefill_tokens_per_second": session.tokens_seen / seconds,
        "kv_bytes": session.kv_bytes,
        "prefill_peak_bytes": reading,
        "peak_bytes": peak,
        "reserved_bytes": reserved,
        "cap_bytes": setting.cap_bytes if setting.cuda else None,
        "planned_bytes": planned.total,
    }


@contextmanager
def cap(setting: Setting) -> Iterator[None]:
    """No more than the cap for this process inside the block; nothing on the CPU, which has no such limit."""
    if not setting.cuda:
        yield
        return
    total = torch.cuda.get_device_properties(setting.device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(setting.cap_bytes / total, 1.0), setting.device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, setting.device)


def _reserved(setting: Setting) -> int | None:
    return torch.cuda.max_memory_reserved(setting.device) if setting.cuda else None
