"""Speed and memory of methods, side by side, on real or random weights."""

from __future__ import annotations

from locret.bench.contestants import LIMIT, PLAIN, Bare, Contestant, Engined, limit, plain
from locret.bench.measure import Row, Run, compare, run_once
from locret.bench.random_weights import random_heads, random_model
from locret.bench.ratios import Ratio, prefill_ratio, ratio

__all__ = [
    "LIMIT",
    "PLAIN",
    "Bare",
    "Contestant",
    "Engined",
    "Ratio",
    "Row",
    "Run",
    "compare",
    "limit",
    "plain",
    "prefill_ratio",
    "random_heads",
    "random_model",
    "ratio",
    "run_once",
]
