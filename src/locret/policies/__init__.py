"""Policies: what is kept. Each scores the units of one layer; selection keeps the best of every KV head."""

from __future__ import annotations

from locret.policies.base import Policy, QueryAware, Units, get_policy, list_policies, policy_options, register_policy
from locret.policies.full import Full
from locret.policies.h2o import H2O
from locret.policies.locret import Locret
from locret.policies.locret_q import LocretQ
from locret.policies.random import Random
from locret.policies.sirllm import SirLLM
from locret.policies.snapkv import SnapKV
from locret.policies.streaming_llm import StreamingLLM
from locret.policies.tova import TOVA

__all__ = [
    "H2O",
    "TOVA",
    "Full",
    "Locret",
    "LocretQ",
    "Policy",
    "QueryAware",
    "Random",
    "SirLLM",
    "SnapKV",
    "StreamingLLM",
    "Units",
    "get_policy",
    "list_policies",
    "policy_options",
    "register_policy",
]
