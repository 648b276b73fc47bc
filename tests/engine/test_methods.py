"""Methods by name: presets and expressions, and why some are refused."""

from __future__ import annotations

import itertools

import pytest
import torch

import locret
from locret.attention import Pattern, Patterns, list_attentions, use_patterns
from locret.cache import make_infllm, make_recall
from locret.cache.infllm_sizes import Sizes
from locret.cache.storage import get_storage, list_storages
from locret.engine import Method, list_methods, parse
from tests.conftest import make_policy, tiny_llama


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("full", Method()),
        ("locret", Method("locret")),
        ("quant2", Method("full", "quant2")),
        ("quant4", Method("full", "quant4")),
        ("quant8", Method("full", "quant8")),
        ("infllm", Method("full", "infllm")),
        ("minference", Method("full", "dense", "minference")),
        ("full+dense+split", Method()),
        ("locret+quant4", Method("locret", "quant4")),
        ("quant4+locret", Method("locret", "quant4")),
        ("locret + recall", Method("locret", "recall")),
        ("streaming_llm+quant8", Method("streaming_llm", "quant8")),
        ("minference+quant4", Method("full", "quant4", "minference")),
        ("offloaded+minference", Method("full", "offloaded", "minference")),
        ("eager+disk+h2o", Method("h2o", "disk", "eager")),
    ],
)
def test_expressions_name_methods(text: str, expected: Method) -> None:
    assert parse(text) == expected
    assert parse(expected.name) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("kivi", "unknown part 'kivi' in method 'kivi': choose from policy: full, h2o"),
        ("", "unknown part ''"),
        ("locret+", "unknown part ''"),
        ("Locret", "unknown part 'Locret'"),
        ("locret+h2o", "names policy 'h2o' beside 'locret': name one policy at most"),
        ("locret+locret", "names policy 'locret' twice"),
        ("offloaded+quant4", "names storage 'quant4' beside 'offloaded': name one storage at most"),
        ("minference+eager", "names attention 'eager' beside 'minference'"),
        ("infllm+locret", "storage 'infllm' keeps everything .* use it with policy 'full'"),
        ("minference+streaming_llm", "does not work with a policy that evicts"),
        ("minference+infllm", "does not work with a storage that shows each pass other units"),
        ("recall", "storage 'recall' lives on what is evicted, and policy 'full' evicts nothing.*streaming_llm.recall"),
        ("full+recall", "evicts nothing"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(locret.LocretError, match=reason):
        parse(text)


def test_positions_are_checked_when_they_are_known() -> None:
    parse("locret+quant4").check("compact")
    for text in ("locret+recall", "minference"):
        with pytest.raises(locret.LocretError, match='positions="true"'):
            parse(text).check("compact")


def test_what_goes_by_the_budget() -> None:
    budgeted = {text: parse(text).budgeted for text in ("full", "locret", "quant4", "minference", "infllm", "h2o+disk")}
    assert budgeted == {
        "full": False, "locret": True, "quant4": False, "minference": False, "infllm": True, "h2o+disk": True,
    }  # fmt: skip


@pytest.mark.parametrize("size", [49, 64, 100, 200])
def test_infllm_sees_no_more_than_the_budget(size: int) -> None:
    model, budget = tiny_llama(), locret.Budget(size=size, chunk=32)
    policy, ids = locret.get_policy("full"), torch.randint(1, 97, (1, 401), generator=torch.Generator().manual_seed(1))
    session = parse("infllm").engine(model, policy=policy, budget=budget).prefill(ids)
    assert session.cache.stored == 401
    storage = session.cache.layers[0].storage
    assert size - storage.sizes.block < storage.visible <= size
    assert all(0 < layer.storage.visible <= size for layer in session.cache.layers)


def test_without_a_budget_of_the_users_infllm_has_the_papers_sizes() -> None:
    model, budget = tiny_llama(), locret.Budget(size=64, chunk=32)
    engine = parse("infllm").engine(model, policy=locret.get_policy("full"), budget=budget, sized=False)
    ids = torch.randint(1, 97, (1, 200), generator=torch.Generator().manual_seed(1))
    assert engine.prefill(ids).cache.layers[0].storage.sizes == Sizes()


def test_a_merging_storage_has_a_second_name() -> None:
    assert get_storage("merge") is get_storage("merge_v")


def test_the_list_holds_every_policy_and_what_stands_alone() -> None:
    methods = list_methods()
    assert set(locret.list_policies()) | {"infllm", "minference", "quant2", "quant4", "quant8"} <= set(methods)
    assert not {"recall", "dense", "split", "masked", "eager"} & set(methods)
    assert all(parse(name).name == name for name in methods)


def test_no_name_has_two_meanings() -> None:
    for one, other in itertools.combinations((locret.list_policies(), list_storages(), list_attentions()), 2):
        assert not set(one) & set(other)


def test_full_is_the_one_policy_that_keeps_everything() -> None:
    model = tiny_llama()
    assert [name for name in locret.list_policies() if not make_policy(name, model).evicts] == ["full"]


# With these something is hidden from a prompt as short as this one.
SMALL = {"infllm": make_infllm(init=5, local=12, block=8, top=3), "recall": make_recall(block=8, top=3)}
METHODS = [*list_methods(), "locret+quant4", "streaming_llm+recall", "random+offloaded", "minference+disk"]


@pytest.mark.parametrize("text", METHODS)
def test_every_method_reads_and_answers(text: str) -> None:
    model, method = tiny_llama(), parse(text)
    engine = locret.Engine(
        model,
        policy=make_policy(method.policy, model),
        budget=locret.Budget(size=40, chunk=32, stabilizers=8, local=10),
        storage=method.storage,
        attention=method.attention,
    )
    ids = torch.randint(1, 97, (1, 120), generator=torch.Generator().manual_seed(1))
    result = engine.generate(engine.prefill(ids), 5)
    assert len(result.token_ids) == 5
    assert result.stats.kept_tokens == (120 if method.policy == "full" else 50)
    assert 0 <= result.stats.offloaded_bytes <= result.stats.kv_bytes


@pytest.mark.gpu
@pytest.mark.parametrize("text", METHODS)
def test_cuda_answers_as_the_cpu_does(text: str) -> None:
    method = parse(text)
    budget = locret.Budget(size=40, chunk=32, stabilizers=8, local=10)
    ids = torch.randint(1, 97, (1, 203), generator=torch.Generator().manual_seed(1))
    storage = SMALL.get(method.storage, method.storage)
    sessions = []
    for device in ("cpu", "cuda"):
        model = tiny_llama().to(device)
        policy = make_policy(method.policy, model)
        engine = locret.Engine(model, policy=policy, budget=budget, storage=storage, attention=method.attention)
        with use_patterns(model, Patterns(default=Pattern("vertical_and_slash", 30, 50))):
            sessions.append(engine.prefill(ids))
    torch.testing.assert_close(sessions[1].logits.cpu(), sessions[0].logits, rtol=1e-3, atol=1e-3)
    if method.storage in ("offloaded", "infllm", "recall"):  # on the CPU there is nowhere else to be
        assert sessions[0].offloaded_bytes == 0 < sessions[1].offloaded_bytes < sessions[1].kv_bytes
