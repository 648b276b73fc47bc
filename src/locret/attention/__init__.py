"""Attention: what a query looks at, and how it is computed."""

from __future__ import annotations

from locret.attention.select import list_attentions, use_attention
from locret.attention.split import split_attention

__all__ = ["list_attentions", "split_attention", "use_attention"]
