"""To and from kvpress: what users of both import.

`LocretPress` is a press around retaining heads; presses of kvpress are compared like policies by
`locret.interop.press_policy`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from locret.interop.presses import get_press, list_presses, load_kvpress, supply_cache_position

if TYPE_CHECKING:
    from locret.interop.locret_press import LocretPress

__all__ = ["LocretPress", "get_press", "list_presses", "load_kvpress", "supply_cache_position"]


def __getattr__(name: str) -> Any:
    if name != "LocretPress":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # It inherits from a class of kvpress, so it can be made only where kvpress is.
    return import_module("locret.interop.locret_press").LocretPress
