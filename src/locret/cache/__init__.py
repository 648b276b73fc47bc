"""The budgeted cache: storage, positions and the moment of eviction."""

from __future__ import annotations

from locret.cache.budget import Budget
from locret.cache.budget_cache import BudgetCache
from locret.cache.dense import Dense
from locret.cache.hooks import attach, detach

__all__ = ["Budget", "BudgetCache", "Dense", "attach", "detach"]
