"""Models small enough for a test and large enough that their tensors outweigh what formulas leave out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

import locret
from benchmarks.tensor_peak import TensorPeak
from locret.cache.storage import Storage
from locret.engine.session import Session
from locret.models.families import text_config
from locret.plan import Estimate, estimate, setting_of
from tests.conftest import TINY_MODELS

WIDTH = 96
LENGTH = 700
BUDGET = locret.Budget(size=160, chunk=128, stabilizers=32, local=20)
NARROW = replace(BUDGET, size=64, chunk=192, stabilizers=16)
WIDER = {"hidden_size": 96, "intermediate_size": 256, "max_position_embeddings": 4096, "head_dim": 16}
# The head size follows from the others, or the number of experts keeps the model small.
DIFFERENT: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": None},
    "mixtral": {"sliding_window": None, "num_local_experts": 3},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 96},
    "gemma3_text": {"sliding_window": 96},
    "olmo3": {"sliding_window": 96},
}


def wider(model_type: str, dtype: torch.dtype = torch.float32, **changes: Any) -> PreTrainedModel:
    """A tiny model of a family with wider layers."""
    config = TINY_MODELS[model_type](**{**WIDER, **DIFFERENT.get(model_type, {}), **changes}).config
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


@dataclass(frozen=True)
class Run:
    """What a real reading took, in bytes, and the estimate."""

    session: Session
    kv: int
    tensors: int
    estimate: Estimate

    @property
    def estimated_tensors(self) -> int:
        """Without weights, which `tensors` does not count."""
        return self.estimate.total - self.estimate.weights - self.estimate.heads


def read(
    model: PreTrainedModel,
    policy: str = "locret",
    budget: locret.Budget = BUDGET,
    length: int = LENGTH,
    storage: str = "dense",
    maker: Callable[[], Storage] | None = None,
) -> Run:
    """Read a prompt of random tokens, counting tensors; a storage that needs a trained merger is given by its maker."""
    heads = locret.RetainingHeads.from_config(model.config, width=WIDTH)
    chosen = locret.get_policy(policy, **({"heads": heads} if policy.startswith("locret") else {}))
    placed = heads.beside(model)  # folds them, once
    engine = locret.Engine(model, policy=chosen, budget=budget, attention="split", storage=maker or storage)
    torch.manual_seed(1)
    ids = torch.randint(text_config(model.config).vocab_size, (length,)).tolist()
    dtype = str(model.dtype).removeprefix("torch.")
    setting = setting_of(model.config, dtype=dtype, policy=f"{policy}+{storage}", width=WIDTH, cuda=False)
    known = [*model.parameters(), *model.buffers(), *placed.parameters(), *placed.buffers()]
    with torch.no_grad(), TensorPeak(known) as count:
        session = engine.prefill(ids)
    return Run(session, session.kv_bytes, count.peak, estimate(setting, length, budget))
