"""The budgeted cache: storage, positions and the moment of eviction."""

from __future__ import annotations

from locret.cache.blocks import InfLLM, make_infllm
from locret.cache.budget import Budget
from locret.cache.budget_cache import BudgetCache
from locret.cache.convolved import Convolution
from locret.cache.dense import Dense
from locret.cache.disk import make_disk
from locret.cache.dynamic import Dynamic
from locret.cache.hooks import attach, detach
from locret.cache.lococo import make_lococo
from locret.cache.merged import Merged
from locret.cache.nearest import Nearest
from locret.cache.offloaded import Offloaded
from locret.cache.quantised import Quantised
from locret.cache.recall import Recall, make_recall

__all__ = [
    "Budget",
    "BudgetCache",
    "Convolution",
    "Dense",
    "Dynamic",
    "InfLLM",
    "Merged",
    "Nearest",
    "Offloaded",
    "Quantised",
    "Recall",
    "attach",
    "detach",
    "make_disk",
    "make_infllm",
    "make_lococo",
    "make_recall",
]
