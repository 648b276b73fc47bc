"""Arguments mean what they say, or are refused by name: nothing is rounded, cut or taken for something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BatchEncoding, GPT2Config

import locret
from locret.engine import Sampling
from tests.conftest import tiny_llama
from tests.eval.models import byte_llama, byte_tokenizer

BUDGET = locret.Budget(size=40, chunk=32)
IDS = [5, 3, 8, 13]


def engine(model: Any = None, tokenizer: Any = None) -> locret.Engine:
    return locret.Engine(model or tiny_llama(), tokenizer, policy=locret.get_policy("full"), budget=BUDGET)


@pytest.mark.parametrize(
    "given",
    [
        tuple(IDS),
        [IDS],
        np.array(IDS),
        np.array([IDS], dtype=np.uint16),
        [np.int64(token) for token in IDS],
        torch.tensor(IDS, dtype=torch.int32),
        {"input_ids": IDS, "attention_mask": [1, 1, 1, 1]},
        BatchEncoding({"input_ids": torch.tensor([IDS])}),
    ],
)
def test_what_tokenizers_and_arrays_give_is_read_as_a_list_is(given: Any) -> None:
    reader = engine()
    assert torch.equal(reader.prefill(given).logits, reader.prefill(IDS).logits)


@pytest.mark.parametrize(
    "given, message",
    [
        ([3, 1.5, 4], "token id 1.5 at index 1"),
        ([3, True, 4], "token id True at index 1"),
        ([3, "4"], "token id '4' at index 1"),
        ([[3, 4.0]], "token id 4.0 at index 1"),
        ([5, -1, 97], "token id -1 is outside the vocabulary of 97"),
        ([5, 2**70], f"token id {2**70} is outside"),
        (torch.tensor([5, -1]), "token id -1 is outside"),
        (torch.tensor([2.0, 3.0]), "token ids are of torch.float32, the first is 2.0"),
        (torch.tensor([True, False]), "token ids are of torch.bool, the first is True"),
        (np.array([1.5]), "token ids are of torch.float64, the first is 1.5"),
        (np.array(["a"]), "the prompt is a ndarray that holds no token ids"),
        ([[1, 2], [3]], "the prompt is a list that holds no token ids of one prompt"),
        (None, "the prompt is a NoneType that holds no token ids"),
        ([{"role": "user", "content": "hi"}], "the prompt is a list that holds no token ids"),
        ({"input_ids": IDS, "attention_mask": [0, 1, 1, 1]}, "attention_mask hides tokens"),
        ({"ids": IDS}, "without input_ids"),
    ],
)
def test_what_is_no_token_id_is_named(given: Any, message: str) -> None:
    reader = engine()
    for read in (reader.prefill, lambda ids: reader.score(reader.prefill(IDS), ids)):
        with pytest.raises(locret.LocretError) as refused:
            read(given)
        assert message in str(refused.value)


def test_nothing_to_read_on_top_of_a_session_is_refused() -> None:
    reader = engine()
    with pytest.raises(locret.LocretError, match="the prompt is empty: give at least one token"):
        reader.prefill([], reader.prefill(IDS))


def test_one_string_is_one_stop() -> None:
    reader = engine(byte_llama(initializer_range=0.5), byte_tokenizer())
    session = reader.prefill("The mill stood by the river")
    free = reader.generate(session, 24).text
    at = next(i for i in range(3, len(free) - 3) if free[i : i + 3] not in free[: i + 2])
    stop = free[at : at + 3]
    assert reader.generate(session, 24, stop=stop).text == reader.generate(session, 24, stop=[stop]).text == free[:at]
    assert reader.generate(session, 24, stop=None).text == free


def test_stops_that_cannot_be_are_refused() -> None:
    reader = engine(byte_llama(), byte_tokenizer())
    session = reader.prefill("The mill")
    for stop, shown in (("", "''"), ([""], "''"), (["a", ""], "''"), ([5], "5")):
        with pytest.raises(locret.LocretError, match=f"a stop string is {shown}: give text"):
            reader.stream(session, 4, stop=stop)
    deaf = engine()
    with pytest.raises(locret.LocretError, match="stop strings need a tokenizer"):
        deaf.generate(deaf.prefill(IDS), 4, stop="x")


@pytest.mark.parametrize("limit", [0, -3, 1.5, True, "8", None, float("nan")])
def test_lengths_of_answers_are_whole_numbers(limit: Any) -> None:
    reader = engine()
    session = reader.prefill(IDS)
    with pytest.raises(locret.LocretError, match=f"max_new_tokens is {limit!r}: give"):
        reader.generate(session, limit)


@pytest.mark.parametrize("name", ["answer_tokens", "question_tokens", "later_tokens"])
@pytest.mark.parametrize("count", [-1, 2.5, True, "3"])
def test_counts_of_a_prompt_are_whole_numbers(name: str, count: Any) -> None:
    with pytest.raises(locret.LocretError, match=f"{name} is {count!r}: give"):
        engine().prefill(IDS, **{name: count})


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"temperature": float("nan")}, "temperature is nan: give 0"),
        ({"temperature": float("inf")}, "temperature is inf: give 0"),
        ({"temperature": "1"}, "temperature is '1': give 0"),
        ({"temperature": True}, "temperature is True: give 0"),
        ({"temperature": 1.0, "top_k": 1.5}, "top_k is 1.5: give a whole number"),
        ({"temperature": 1.0, "top_p": float("nan")}, "top_p is nan: give a number above 0"),
        ({"temperature": 1.0, "top_p": "0.5"}, "top_p is '0.5': give a number above 0"),
        ({"temperature": 1.0, "seed": -1}, "seed is -1: give at least 0"),
        ({"temperature": 1.0, "seed": 2**64}, f"seed is {2**64}: give at most {2**64 - 1}"),
        ({"seed": 0.5}, "seed is 0.5: give a whole number"),
        ({"top_p": 0.9}, r"top_p is 0.9 and temperature is 0 \(greedy\)"),
        ({"top_k": 5}, r"top_k is 5 and temperature is 0 \(greedy\)"),
    ],
)
def test_sampling_that_is_none_or_without_effect(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(locret.LocretError, match=message):
        Sampling(**settings)


@pytest.mark.parametrize("settings", [{"temperature": 2, "seed": 2**64 - 1}, {"temperature": 1, "top_k": np.int64(3)}])
def test_whole_temperatures_and_numbers_of_numpy_are_numbers(settings: dict[str, Any]) -> None:
    reader = engine()
    session = reader.prefill(IDS)
    assert len(reader.generate(session, np.int64(2), **settings).token_ids) == 2


def test_a_result_is_not_its_session() -> None:
    reader = engine()
    result: Any = reader.generate(reader.prefill(IDS), 2)
    uses: list[Callable[[], Any]] = [
        lambda: reader.generate(result, 2),
        lambda: reader.prefill([3], result),
        lambda: reader.score(result, [3]),
    ]
    for use in uses:
        with pytest.raises(locret.LocretError, match="session is a Result: give what prefill returns"):
            use()


def test_names_and_numbers_in_place_of_policies_budgets_and_heads() -> None:
    model, policy = tiny_llama(), locret.get_policy("random")
    options: dict[str, Any] = {"policy": policy, "budget": BUDGET}
    for wrong, message in (
        ({"policy": "locret"}, "policy is 'locret': give the policy itself"),
        ({"budget": 1024}, "budget is 1024: give a Budget"),
        ({"policy": locret.get_policy("locret", heads="folder")}, "heads is 'folder': give"),
    ):
        for make in (locret.Engine, locret.BudgetCache):
            with pytest.raises(locret.LocretError, match=message):
                make(model, **{**options, **wrong})
    for name in ("prompt_length", "total_length"):
        for length in (0, -5, 2.5, "9"):
            with pytest.raises(locret.LocretError, match=f"{name} is {length!r}: give"):
                locret.BudgetCache(model, **{**options, name: length})
    with pytest.raises(locret.LocretError, match="config is a LlamaForCausalLM: give the configuration"):
        locret.RetainingHeads.from_config(model)
    with pytest.raises(locret.LocretError, match="gpt2"):
        locret.RetainingHeads.from_config(GPT2Config())


@pytest.mark.parametrize(
    "name, options",
    [
        ("streaming_llm", {"sinks": 1.5}),
        ("streaming_llm", {"sinks": "4"}),
        ("h2o", {"recent": "all"}),
        ("h2o", {"recent": float("nan")}),
        ("snapkv", {"window": 2.0}),
        ("snapkv", {"kernel": None}),
        ("sirllm", {"recent": True}),
        ("locret_q", {"heads": None, "question": "5"}),
    ],
)
def test_options_of_policies_are_numbers(name: str, options: dict[str, Any]) -> None:
    option, value = list(options.items())[-1]
    with pytest.raises(locret.LocretError, match=f"{option} is {value!r}: give"):
        locret.get_policy(name, **options)
