"""Models and engines of the checks."""

from __future__ import annotations

from typing import Any

import torch

import locret
from benchmarks.gpu.setting import Setting
from locret.bench import random_heads, random_model


def large_model(setting: Setting, shape: str) -> tuple[Any, locret.RetainingHeads]:
    """A shape with random weights and heads, made on the device."""
    model = random_model(setting.config(shape), setting.dtype, setting.device)
    return model, random_heads(model, setting.width)


def random_ids(count: int, vocabulary: int) -> torch.Tensor:
    """A prompt of random tokens [1, count], the same every time."""
    return torch.randint(1, vocabulary, (1, count), generator=torch.Generator().manual_seed(0))


def engine_of(model: Any, policy: str, budget: locret.Budget, heads: Any = None, static: bool = False) -> locret.Engine:
    """An engine with its default attention and storage."""
    options = {"heads": heads} if policy == "locret" else {}
    return locret.Engine(model, policy=locret.get_policy(policy, **options), budget=budget, static=static)
