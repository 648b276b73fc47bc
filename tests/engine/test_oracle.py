"""The engine against recorded outputs of the original implementation (compact positions, batch 1, greedy)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

import locret
from locret.engine.decode import decode
from locret.engine.sampling import Sampling


@pytest.fixture
def oracle(shared_data: Path) -> dict[str, object]:
    path = shared_data / "oracle" / "upstream-llama-a.safetensors"
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    model = LlamaForCausalLM(LlamaConfig(**json.loads(metadata["config"]))).eval()
    heads = locret.RetainingHeads.from_config(model.config, width=1024)
    renamed = {f"layers.{i}.{fc}.weight": tensors.pop(f"model.layers.{i}.self_attn.{fc}.weight")
               for i in range(model.config.num_hidden_layers) for fc in ("fc1", "fc2")}  # fmt: skip
    heads.load_state_dict(renamed)
    recorded = {key.removeprefix("oracle."): tensors.pop(key) for key in list(tensors) if key.startswith("oracle.")}
    model.load_state_dict(tensors)
    return {"model": model, "heads": heads, "settings": json.loads(metadata["generate"]), **recorded}


@pytest.mark.parametrize("attention", ["split", "masked", "eager"])
def test_reproduces_every_forward_of_the_original(oracle: dict[str, object], attention: str) -> None:
    settings, model = oracle["settings"], oracle["model"]
    budget = locret.Budget(
        size=settings["budget_size"], chunk=settings["chunk_size"], stabilizers=settings["stabilizers"],
        local=settings["local_len"], positions="compact",
    )  # fmt: skip
    engine = locret.Engine(
        model, policy=locret.get_policy("locret", heads=oracle["heads"]), budget=budget, attention=attention
    )
    # The oracle holds the last position's logits of every forward pass: chunks, tail, decode steps.
    logits: list[torch.Tensor] = []
    hook = model.model.register_forward_hook(
        lambda module, args, output: logits.append(model.lm_head(output.last_hidden_state[0, -1]).detach())
    )
    session = engine.prefill(oracle["input_ids"])
    steps = decode(
        model, session.cache, session.logits, session.token_ids,
        limit=8, stops=frozenset(), sampling=Sampling(), processors=[],
    )  # fmt: skip
    tokens = [token for token, _ in steps]
    hook.remove()
    expected = oracle["last_logits"]
    assert len(logits) == expected.shape[0]
    torch.testing.assert_close(torch.stack(logits), expected, rtol=0, atol=1e-3)
    assert tokens == oracle["output_ids"][0, -8:].tolist()
    assert engine.generate(engine.prefill(oracle["input_ids"]), 8).token_ids == tokens
