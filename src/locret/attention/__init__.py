"""Attention: what a query looks at, and how it is computed."""

from __future__ import annotations

from locret.attention.minference import set_patterns, use_patterns
from locret.attention.patterns import Pattern, Patterns
from locret.attention.search import search_patterns
from locret.attention.select import list_attentions, use_attention
from locret.attention.split import split_attention

__all__ = [
    "Pattern",
    "Patterns",
    "list_attentions",
    "search_patterns",
    "set_patterns",
    "split_attention",
    "use_attention",
    "use_patterns",
]
