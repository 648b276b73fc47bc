"""Policies: what is kept. Each scores the units of one layer; selection keeps the best of every KV head."""

from __future__ import annotations

from locret.policies.base import Policy, Units, get_policy, list_policies, register_policy
from locret.policies.full import Full
from locret.policies.locret import Locret
from locret.policies.random import Random
from locret.policies.streaming_llm import StreamingLLM

__all__ = [
    "Full",
    "Locret",
    "Policy",
    "Random",
    "StreamingLLM",
    "Units",
    "get_policy",
    "list_policies",
    "register_policy",
]
