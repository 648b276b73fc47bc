"""After eviction, logits equal a dense pass that hides exactly the evicted (layer, head, token) units."""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache

import locret
from tests.conftest import TINY_MODELS, make_policy, tiny_llama
from tests.gold import Reading, dense_logits, recorded

PROMPT, NEW = 203, 7


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


# Every policy on one family, every family under one policy: the two do not touch each other.
CASES = [("llama", policy) for policy in locret.list_policies()]
CASES += [(family, "locret") for family in TINY_MODELS if family != "llama"]


@pytest.mark.parametrize("attention", ["split", "masked", "eager"])
@pytest.mark.parametrize("positions", ["true", "compact"])
@pytest.mark.parametrize(("family", "policy_name"), CASES)
def test_equals_a_dense_pass_under_the_mask_of_the_evicted(
    family: str, policy_name: str, positions: str, attention: str
) -> None:
    model = TINY_MODELS[family]()
    policy = make_policy(policy_name, model)
    pins = {"pin_first": 2, "pin_newest": 12} if attention == "split" else {}
    budget = locret.Budget(size=40, chunk=32, stabilizers=8, local=10, positions=positions, **pins)
    engine = locret.Engine(model, policy=policy, budget=budget, attention=attention)
    ids = torch.randint(1, 97, (1, PROMPT), generator=torch.Generator().manual_seed(1))

    reading = Reading(positions)
    logits = []
    hook = model.register_forward_hook(lambda module, args, out: logits.append(out.logits[0, -1].detach().clone()))
    with recorded(model, reading):
        session = engine.prefill(ids)
        result = engine.generate(session, NEW)
    hook.remove()

    assert len(reading.passes) >= 5 + 5
    if policy.evicts:
        assert reading.passes[-1].kept[1].shape[-1] == budget.size + budget.local + NEW - 2
    everything = torch.cat([ids, torch.tensor([result.token_ids[:-1]])], -1)
    expected = dense_logits(model, everything, reading)[0, PROMPT - 1 :]
    assert relative_error(torch.stack(logits), expected) < 1e-4

    unmasked = Reading(positions, [type(reading.passes[0])(0, everything.shape[1], None)])
    plain = dense_logits(model, everything, unmasked)[0, PROMPT - 1 :]
    if policy.evicts:  # the yardstick itself can tell: without the mask the answer is another
        assert relative_error(plain, expected) > 1e-2
    else:
        assert relative_error(plain, expected) < 1e-4


@pytest.mark.parametrize("attention", ["split", "masked", "eager", None])
@pytest.mark.parametrize("positions", ["true", "compact"])
@pytest.mark.parametrize("policy_name", locret.list_policies())
def test_a_budget_that_covers_the_prompt_equals_plain_transformers(
    policy_name: str, positions: str, attention: str | None
) -> None:
    model = tiny_llama()
    ids = torch.randint(1, 97, (1, PROMPT), generator=torch.Generator().manual_seed(2))
    budget = locret.Budget(size=PROMPT, chunk=32, stabilizers=8, local=10, positions=positions)
    engine = locret.Engine(model, policy=make_policy(policy_name, model), budget=budget, attention=attention)
    session = engine.prefill(ids)
    with torch.no_grad():
        plain = model(input_ids=ids, past_key_values=DynamicCache(config=model.config)).logits[0, -1]
    assert relative_error(session.logits, plain) < 1e-5
    expected = model.generate(ids, max_new_tokens=NEW, do_sample=False)[0, PROMPT:].tolist()
    assert engine.generate(session, NEW).token_ids == expected


@pytest.mark.parametrize("positions", ["true", "compact"])
@pytest.mark.parametrize("policy_name", locret.list_policies())
@pytest.mark.parametrize("local", [0, 10, 40])
@pytest.mark.parametrize("chunked", [False, True])
def test_generate_equals_the_engine(policy_name: str, positions: str, local: int, chunked: bool) -> None:
    model = tiny_llama(initializer_range=0.5)
    ids = torch.randint(1, 97, (1, PROMPT), generator=torch.Generator().manual_seed(3))
    policy = make_policy(policy_name, model)
    budget = locret.Budget(size=56, chunk=32, stabilizers=8, local=local, positions=positions)
    engine = locret.Engine(model, policy=policy, budget=budget)
    session = engine.prefill(ids)
    expected = engine.generate(session, 24)

    cache = locret.BudgetCache(model, policy=policy, budget=budget, prompt_length=PROMPT if chunked else None)
    options = {"prefill_chunk_size": budget.chunk} if chunked else {}
    output = model.generate(
        ids, past_key_values=cache, max_new_tokens=24, do_sample=False,
        output_logits=True, return_dict_in_generate=True, **options,
    )  # fmt: skip
    torch.testing.assert_close(output.logits[0][0], session.logits, rtol=1e-4, atol=1e-4)
    assert output.sequences[0, PROMPT:].tolist() == expected.token_ids
    for layer in range(len(cache.layers)):
        assert torch.equal(cache.kept_positions(layer), expected.session.cache.kept_positions(layer))
    assert cache.tokens_seen == PROMPT + 23


def test_generate_without_a_known_prompt_length_stays_in_the_budget() -> None:
    model = tiny_llama()
    budget = locret.Budget(size=40, chunk=32, stabilizers=8, local=10)
    cache = locret.BudgetCache(model, policy=make_policy("locret", model), budget=budget)
    ids = torch.randint(1, 97, (1, PROMPT), generator=torch.Generator().manual_seed(4))
    model.generate(ids, past_key_values=cache, max_new_tokens=5, do_sample=False, prefill_chunk_size=budget.chunk)
    assert cache.stored == budget.size + 4
    kept = cache.kept_positions(1)[0]
    for head in kept:  # the newest `local` tokens may be the prompt's tail, so they are there
        assert head[-14:].tolist() == list(range(PROMPT - 10, PROMPT + 4))


@pytest.mark.parametrize("attention", ["split", "masked", "eager"])
@pytest.mark.parametrize("positions", ["true", "compact"])
@pytest.mark.parametrize("family", ["llama", "gemma3_text", "smollm3"])
@pytest.mark.parametrize(("room", "every"), [(6, 1), (0, 4), (12, 5)])
def test_eviction_while_decoding_equals_a_dense_pass_under_its_mask(
    family: str, positions: str, attention: str, room: int, every: int
) -> None:
    model = TINY_MODELS[family]()
    budget = locret.Budget(
        size=40, chunk=32, stabilizers=8, local=10, positions=positions, decode_budget=room, decode_every=every
    )
    engine = locret.Engine(model, policy=make_policy("locret", model), budget=budget, attention=attention)
    ids = torch.randint(1, 97, (1, PROMPT), generator=torch.Generator().manual_seed(6))
    reading = Reading(positions)
    logits = []
    hook = model.register_forward_hook(lambda module, args, out: logits.append(out.logits[0, -1].detach().clone()))
    with recorded(model, reading):
        result = engine.generate(engine.prefill(ids), 40)
    hook.remove()
    stored = [step.kept[1].shape[-1] for step in reading.passes if step.begin > PROMPT]
    assert max(stored) == budget.decode_size + every - 1  # and one more within a pass, which is cut at once
    everything = torch.cat([ids, torch.tensor([result.token_ids[:-1]])], -1)
    expected = dense_logits(model, everything, reading)[0, PROMPT - 1 :]
    assert relative_error(torch.stack(logits), expected) < 1e-4
