"""The engine on a CUDA device against the same on the CPU. Run by `make gpu`."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from accelerate import dispatch_model
from transformers import NoRepeatNGramLogitsProcessor

import locret
from tests.conftest import TINY_MODELS, make_policy, tiny_llama
from tests.eval.models import byte_tokenizer

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("positions", ["true", "compact"])
@pytest.mark.parametrize("attention", ["split", "masked", "eager"])
@pytest.mark.parametrize("policy_name", locret.list_policies())
def test_cuda_keeps_and_says_what_the_cpu_does(policy_name: str, attention: str, positions: str) -> None:
    budget = locret.Budget(size=40, chunk=32, stabilizers=8, local=10, positions=positions)
    ids = torch.randint(1, 97, (1, 203), generator=torch.Generator().manual_seed(1))
    sessions = []
    for device in ("cpu", "cuda"):
        model = copy.deepcopy(tiny_llama()).to(device)
        policy = make_policy(policy_name, model)
        sessions.append(locret.Engine(model, policy=policy, budget=budget, attention=attention).prefill(ids))
    torch.testing.assert_close(sessions[1].logits.cpu(), sessions[0].logits, rtol=1e-3, atol=1e-3)
    for layer in range(3):
        assert torch.equal(sessions[1].cache.kept_positions(layer).cpu(), sessions[0].cache.kept_positions(layer))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_close_and_in_the_budget(dtype: torch.dtype) -> None:
    budget = locret.Budget(size=256, chunk=64, stabilizers=16, local=16)
    ids = torch.randint(1, 97, (1, 200), generator=torch.Generator().manual_seed(1))
    logits = []
    for kind in (torch.float32, dtype):
        model = tiny_llama(initializer_range=0.05).to("cuda", kind)
        session = locret.Engine(model, policy=make_policy("locret", model), budget=budget).prefill(ids)
        logits.append(session.logits)
    assert torch.nn.functional.cosine_similarity(logits[0], logits[1], dim=0) > 0.99


@pytest.mark.parametrize("attention", ["split", "masked", "eager"])
@pytest.mark.parametrize("positions", ["true", "compact"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", TINY_MODELS)
def test_every_family_reads_in_half_precision(family: str, dtype: torch.dtype, positions: str, attention: str) -> None:
    model = TINY_MODELS[family](initializer_range=0.1).to("cuda", dtype)
    budget = locret.Budget(size=40, chunk=32, stabilizers=8, local=10, positions=positions)
    engine = locret.Engine(model, policy=make_policy("locret", model), budget=budget, attention=attention)
    session = engine.prefill(torch.randint(1, 97, (1, 203), generator=torch.Generator().manual_seed(1)))
    assert session.logits.isfinite().all()
    assert session.cache.stored == 50
    for layer in (session.cache.layers[i] for i in session.cache.budgeted):
        assert layer.read()[0].dtype == dtype
        assert layer.scores.dtype == torch.float32


# Where the layers compute: with the CPU as main device those "on" it compute there, else their weights visit the card.
@pytest.mark.parametrize("main_device", ["cpu", "cuda:0"])
@pytest.mark.parametrize("positions", ["true", "compact"])
@pytest.mark.parametrize("family", ["llama", "phi3", "gemma3_text", "smollm3"])
def test_layers_on_the_cpu_and_on_cuda_do_what_one_device_does(family: str, positions: str, main_device: str) -> None:
    budget = locret.Budget(size=40, chunk=32, stabilizers=8, local=10, positions=positions, decode_budget=4)
    # Every token but once: layer 0 scores equal tokens alike, and rounding would choose between them.
    ids = 1 + torch.randperm(511, generator=torch.Generator().manual_seed(1))[None, :203]
    once = [NoRepeatNGramLogitsProcessor(1)]
    places = {"model.layers.0": "cuda:0", "model.layers.1": "cpu", "model.layers.2": "cuda:0", "lm_head": "cpu"}
    results = []
    for split in (False, True):
        model = TINY_MODELS[family](vocab_size=512)
        parts = {f"model.{name}": "cpu" for name, _ in model.model.named_children() if name != "layers"}
        model = dispatch_model(model, {**parts, **places}, main_device=main_device) if split else model
        engine = locret.Engine(model, policy=make_policy("locret", model), budget=budget)
        results.append(engine.generate(engine.prefill(ids), 20, processors=once))
    one, parted = (result.session for result in results)
    torch.testing.assert_close(parted.logits.cpu(), one.logits, rtol=1e-3, atol=1e-3)
    for layer in one.cache.budgeted:
        assert torch.equal(parted.cache.kept_positions(layer).cpu(), one.cache.kept_positions(layer))
    computed_on = {str(parted.cache.layers[layer].scores.device) for layer in one.cache.budgeted}
    assert computed_on == ({"cpu", "cuda:0"} if main_device == "cpu" else {"cuda:0"})
    assert results[1].token_ids == results[0].token_ids


def test_a_device_map_made_by_transformers(tmp_path: Path) -> None:
    tiny_llama(vocab_size=258).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    model, _, _ = locret.load_model(str(tmp_path), device_map="auto")
    engine = locret.Engine(model, policy=locret.get_policy("random"), budget=locret.Budget(size=40, chunk=32))
    result = engine.generate(engine.prefill(list(range(1, 200))), 5)
    assert len(result.token_ids) == 5
    assert result.stats.peak_memory_bytes > 0


@pytest.mark.parametrize("broken", [0, 1, 2])
@pytest.mark.parametrize("length", [100, 203])
def test_scores_that_are_no_numbers_are_refused_before_the_prompt_is_read(broken: int, length: int) -> None:
    model = tiny_llama().to("cuda")
    policy = make_policy("locret", model)
    policy.heads.layers[broken].fc2.weight.data.fill_(torch.nan)
    engine = locret.Engine(model, policy=policy, budget=locret.Budget(size=40, chunk=32, stabilizers=8, local=10))
    with pytest.raises(locret.LocretError, match=f"'locret' gave NaN scores in layer {broken}: scores must be numbers"):
        engine.prefill(torch.randint(1, 97, (1, length)))
