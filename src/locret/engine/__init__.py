"""Prefill and decode: the loop that reads a prompt in chunks and writes an answer."""

from __future__ import annotations

from locret.engine.engine import Engine
from locret.engine.methods import Method, list_methods, parse
from locret.engine.sampling import Sampling
from locret.engine.session import Result, Session, Stats

__all__ = ["Engine", "Method", "Result", "Sampling", "Session", "Stats", "list_methods", "parse"]
