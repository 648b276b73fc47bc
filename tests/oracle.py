"""Recorded outputs of the original implementation (compact positions, batch 1, greedy), and the engine against them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

import locret
from locret.engine.decode import decode
from locret.engine.sampling import Sampling

HEADS = (".fc1.weight", ".fc2.weight")
DECODED = 8


@dataclass(frozen=True)
class Oracle:
    """A tiny model with heads in the published format, and what the original code made of a prompt.

    Attributes:
        path: the state dict of the whole model, heads included.
        model: without heads.
        budget: what the prompt was read with.
        input_ids, output_ids: [1, tokens].
        last_logits: [passes, vocab], of the last position of every forward pass: chunks, tail, decode steps.
    """

    path: Path
    model: LlamaForCausalLM
    budget: locret.Budget
    input_ids: torch.Tensor
    output_ids: torch.Tensor
    last_logits: torch.Tensor


def load_oracle(shared_data: Path) -> Oracle:
    path = shared_data / "oracle" / "upstream-llama-a.safetensors"
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    recorded = {key.removeprefix("oracle."): tensors.pop(key) for key in list(tensors) if key.startswith("oracle.")}
    model = LlamaForCausalLM(LlamaConfig(**json.loads(metadata["config"]))).eval()
    model.load_state_dict({key: tensor for key, tensor in tensors.items() if not key.endswith(HEADS)})
    settings = json.loads(metadata["generate"])
    budget = locret.Budget(
        size=settings["budget_size"], chunk=settings["chunk_size"], stabilizers=settings["stabilizers"],
        local=settings["local_len"], positions="compact",
    )  # fmt: skip
    return Oracle(path, model, budget, **recorded)


def check_against(oracle: Oracle, heads: locret.RetainingHeads, attention: str) -> None:
    """Make sure that every forward pass of the engine gives the recorded logits, to 1e-3, and the recorded tokens."""
    model = oracle.model
    policy = locret.get_policy("locret", heads=heads)
    engine = locret.Engine(model, policy=policy, budget=oracle.budget, attention=attention)
    logits: list[torch.Tensor] = []
    hook = model.model.register_forward_hook(
        lambda module, args, output: logits.append(model.lm_head(output.last_hidden_state[0, -1]).detach())
    )
    session = engine.prefill(oracle.input_ids)
    steps = decode(
        model, session.cache, session.logits, session.token_ids,
        limit=DECODED, stops=frozenset(), sampling=Sampling(), processors=[],
    )  # fmt: skip
    tokens = [token for token, _ in steps]
    hook.remove()
    assert len(logits) == oracle.last_logits.shape[0]
    torch.testing.assert_close(torch.stack(logits), oracle.last_logits, rtol=0, atol=1e-3)
    assert tokens == oracle.output_ids[0, -DECODED:].tolist()
    assert engine.generate(engine.prefill(oracle.input_ids), DECODED).token_ids == tokens
