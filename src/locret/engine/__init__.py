"""Prefill and decode: the loop that reads a prompt in chunks and writes an answer."""

from __future__ import annotations

from locret.engine.engine import Engine
from locret.engine.sampling import Sampling
from locret.engine.session import Result, Session, Stats

__all__ = ["Engine", "Result", "Sampling", "Session", "Stats"]
