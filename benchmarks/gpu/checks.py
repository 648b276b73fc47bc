"""Every check by name."""

from __future__ import annotations

from functools import partial

from benchmarks.gpu.attention import attention
from benchmarks.gpu.capped import capped
from benchmarks.gpu.decoding import decoding
from benchmarks.gpu.logits import builtin, builtin_half, tiny
from benchmarks.gpu.run import Check
from benchmarks.gpu.setting import SHAPES
from benchmarks.gpu.speed import speed


def checks() -> dict[str, Check]:
    """In the order in which they are run, the cheapest first."""
    return {
        **{f"logits/tiny, fp32, {positions}": partial(tiny, positions=positions) for positions in ("true", "compact")},
        "logits/builtin, fp32": builtin,
        **{f"logits/builtin, bf16, {name}": partial(builtin_half, policy=name) for name in ("full", "streaming_llm")},
        **{f"attention/{shape}": partial(attention, shape=shape) for shape in SHAPES},
        **{f"decode/{shape}": partial(decoding, shape=shape) for shape in SHAPES},
        **{f"capped/{shape}": partial(capped, shape=shape) for shape in SHAPES},
        **{f"speed/{shape}": partial(speed, shape=shape) for shape in SHAPES},
    }
