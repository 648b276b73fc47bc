"""Long-context LLM inference in fixed memory: chunked prefill with KV eviction by trained retaining heads.

Locret (arXiv 2410.01805) as software: see `Engine`, `BudgetCache`, `RetainingHeads` and `get_policy`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from locret.cache import Budget as Budget
    from locret.cache import BudgetCache as BudgetCache
    from locret.cache import attach as attach
    from locret.cache import detach as detach
    from locret.engine import Engine as Engine
    from locret.engine import Result as Result
    from locret.engine import Session as Session
    from locret.errors import LocretError as LocretError
    from locret.models.heads import RetainingHeads as RetainingHeads
    from locret.models.loading import load_builtin as load_builtin
    from locret.models.loading import load_model as load_model
    from locret.policies import get_policy as get_policy
    from locret.policies import list_policies as list_policies

__version__ = "0.1.0"

# Importing torch and transformers takes seconds; `locret --help` should not.
_PUBLIC = {
    "Budget": "locret.cache",
    "BudgetCache": "locret.cache",
    "Engine": "locret.engine",
    "LocretError": "locret.errors",
    "Result": "locret.engine",
    "RetainingHeads": "locret.models.heads",
    "Session": "locret.engine",
    "attach": "locret.cache",
    "detach": "locret.cache",
    "get_policy": "locret.policies",
    "list_policies": "locret.policies",
    "load_builtin": "locret.models.loading",
    "load_model": "locret.models.loading",
}

__all__ = sorted([*_PUBLIC, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'locret' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
