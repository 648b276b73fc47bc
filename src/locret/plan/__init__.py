"""The planner: bytes that reading a prompt takes, from a model's configuration alone."""

from __future__ import annotations

from locret.plan.afford import fits, largest_budget, longest_prompt, setting_of
from locret.plan.estimate import Estimate, Setting, estimate
from locret.plan.shapes import SHAPES, find_config
from locret.plan.sizes import Sizes, sizes_of

__all__ = [
    "SHAPES",
    "Estimate",
    "Setting",
    "Sizes",
    "estimate",
    "find_config",
    "fits",
    "largest_budget",
    "longest_prompt",
    "setting_of",
    "sizes_of",
]
