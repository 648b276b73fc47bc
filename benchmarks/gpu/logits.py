"""Logits on the device against those on the CPU."""

from __future__ import annotations

import copy
from typing import Any

import torch

import locret
from benchmarks.gpu.models import engine_of, random_ids
from benchmarks.gpu.run import Row
from benchmarks.gpu.setting import Setting
from locret.bench import random_heads, random_model
from locret.plan import find_config

FP32 = 1e-3  # of the largest logit
BF16 = 0.05  # relative error (2-norm): 8 bits of mantissa, through a few layers


def tiny(setting: Setting, positions: Any) -> Row:
    """A small random Llama in fp32; what is kept must be the same units, and the logits close."""
    config = find_config("llama-60m")
    config.num_hidden_layers, config.vocab_size, config.hidden_size, config.intermediate_size = 3, 97, 128, 192
    config.bos_token_id = config.eos_token_id = config.pad_token_id = None
    model = random_model(config, torch.float32, "cpu")
    heads = random_heads(model, 16)
    budget = locret.Budget(size=64, chunk=32, stabilizers=8, local=10, positions=positions)
    return compare(model, heads, budget, random_ids(300, 97), setting)


def builtin(setting: Setting) -> Row:
    """The built-in model in fp32, with its trained heads."""
    model, _, heads = locret.load_builtin()
    length = 600 if setting.tiny else 8192
    budget = locret.Budget(size=length // 8, chunk=length // 8, stabilizers=16, local=16)
    return compare(model, heads, budget, random_ids(length, model.config.vocab_size), setting)


def builtin_half(setting: Setting, policy: str) -> Row:
    """The built-in model in bf16 against fp32 on the CPU, with a policy that keeps the same units in both."""
    length = 600 if setting.tiny else 8192
    budget = locret.Budget(size=length // 8, chunk=length // 8, stabilizers=16, local=16)
    logits = []
    for dtype, device in ((torch.float32, torch.device("cpu")), (torch.bfloat16, setting.device)):
        model = locret.load_builtin()[0].to(device, dtype)
        engine = engine_of(model, policy, budget)
        logits.append(engine.prefill(random_ids(length, model.config.vocab_size)).logits.cpu())
    error = float((logits[1] - logits[0]).norm() / logits[0].norm())
    return {"passed": error <= BF16, "relative_error": error, "tolerance": BF16, "tokens": length}


def compare(model: Any, heads: Any, budget: locret.Budget, ids: torch.Tensor, setting: Setting) -> Row:
    """The same prompt on both; logits and the sets of kept units."""
    sessions = [
        engine_of(own, "locret", budget, copy.deepcopy(heads)).prefill(ids)
        for own in (model, copy.deepcopy(model).to(setting.device))
    ]
    ours, theirs = (session.logits.cpu() for session in sessions)
    error = float((theirs - ours).abs().max() / ours.abs().max())
    layers = model.config.num_hidden_layers
    kept = [[session.cache.kept_positions(layer).cpu() for layer in range(layers)] for session in sessions]
    shares = [
        len(set(a.tolist()) & set(b.tolist())) / len(a)
        for one, other in zip(*kept, strict=True)
        for a, b in zip(one.flatten(0, 1), other.flatten(0, 1), strict=True)
    ]
    # Sums in another order may swap two units whose scores are equal to six digits; more would be an error.
    return {
        "passed": error <= FP32 and min(shares) > 0.99,
        "relative_error": error,
        "tolerance": FP32,
        "same_units": min(shares),
        "tokens": ids.shape[1],
    }
