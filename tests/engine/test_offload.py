"""Models in parts (`device_map`): weights that are elsewhere until their layer runs change nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import dispatch_model
from transformers import PreTrainedModel

import locret
from locret.models.fingerprint import fingerprint_of
from locret.models.placement import device_of, devices_of
from tests.conftest import TINY_MODELS, make_policy, tiny_llama

BUDGET = locret.Budget(size=40, chunk=32, stabilizers=8, local=10)
Offload = Callable[..., Any]


@pytest.fixture
def offload(tmp_path: Path) -> Offload:
    """Moves parts of a model to the disk, whence accelerate's hooks fetch them for each pass."""

    def move(model: PreTrainedModel, *names: str) -> Any:
        parts = [f"model.{name}" for name, _ in model.model.named_children() if name != "layers"]
        parts += ["lm_head", *(f"model.layers.{i}" for i in range(len(model.model.layers)))]
        places = {part: "disk" if part in names else "cpu" for part in parts}
        return dispatch_model(model, places, offload_dir=str(tmp_path))

    return move


def ids(rows: int = 1) -> torch.Tensor:
    return torch.randint(1, 97, (rows, 203), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("positions", ["true", "compact"])
@pytest.mark.parametrize("family", TINY_MODELS)
def test_layers_on_disk_read_and_write_as_if_they_were_here(family: str, positions: str, offload: Offload) -> None:
    budget = locret.Budget(size=40, chunk=32, stabilizers=8, local=10, positions=positions)
    results = []
    for parts in ((), ("model.layers.1", "model.layers.2")):
        model = TINY_MODELS[family]()
        model = offload(model, *parts) if parts else model
        engine = locret.Engine(model, policy=make_policy("locret", model), budget=budget)
        results.append(engine.generate(engine.prefill(ids()), 6))
    here, away = results
    assert model.model.layers[1].self_attn.o_proj.weight.is_meta  # they were on disk indeed
    assert away.token_ids == here.token_ids
    torch.testing.assert_close(away.session.logits, here.session.logits)
    for layer in here.session.cache.budgeted:
        kept = [result.session.cache.kept_positions(layer) for result in results]
        assert torch.equal(*kept)
    assert away.stats.peak_memory_bytes > 0


@pytest.mark.parametrize("policy_name", locret.list_policies())
def test_every_policy_works_with_everything_on_disk(policy_name: str, offload: Offload) -> None:
    logits = []
    for parts in ((), ("model.embed_tokens", "model.norm", "lm_head", *(f"model.layers.{i}" for i in range(3)))):
        model = tiny_llama()
        policy = make_policy(policy_name, model)
        model = offload(model, *parts) if parts else model
        logits.append(locret.Engine(model, policy=policy, budget=BUDGET).prefill(ids()).logits)
    assert model.device.type == "meta"
    torch.testing.assert_close(*logits)


def test_a_padded_batch_of_an_offloaded_model(offload: Offload) -> None:
    mask = (torch.arange(203) >= torch.tensor([[0], [150]])).long()
    answers = []
    for parts in ((), ("model.layers.0",)):
        model = tiny_llama()
        model = offload(model, *parts) if parts else model
        cache = locret.BudgetCache(model, policy=make_policy("locret", model), budget=BUDGET)
        answers.append(model.generate(ids(2), attention_mask=mask, past_key_values=cache, max_new_tokens=6))
    assert torch.equal(*answers)


def test_the_fingerprint_of_offloaded_weights_is_that_of_the_weights(offload: Offload) -> None:
    whole = fingerprint_of(tiny_llama())
    away = offload(tiny_llama(), "model.layers.1")
    assert fingerprint_of(away) == whole
    assert away.model.layers[1].self_attn.v_proj.weight.is_meta  # fetched for the moment only
    heads = locret.RetainingHeads.from_config(away.config, width=16, fingerprint=whole)
    heads.check_fits(away)
    with pytest.raises(locret.LocretError, match="other weights"):
        heads.check_fits(offload(tiny_llama(seed=1), "model.layers.1"))


def test_heads_are_where_their_layer_computes(offload: Offload) -> None:
    model = offload(tiny_llama().to(torch.bfloat16), "model.layers.1")
    heads = locret.RetainingHeads.from_config(model.config, width=16)
    heads.place_beside(model)
    assert {(p.device.type, p.dtype) for p in heads.parameters()} == {("cpu", torch.bfloat16)}
    assert devices_of(model) == {torch.device("cpu")}


def test_weights_that_are_nowhere_are_refused() -> None:
    with torch.device("meta"):
        model = tiny_llama()
    assert fingerprint_of(model) == ()
    with pytest.raises(locret.LocretError, match="weights of LlamaAttention are not loaded: load the model with"):
        device_of(model.model.layers[0].self_attn)
