"""Whether prompt and answer fit the window is known, and said, before anything is read."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import locret
from locret.models.families import decoder_of
from tests.conftest import tiny_llama

WINDOW = 128


class Passes:
    """Counts forward passes of a model."""

    def __init__(self, model: Any) -> None:
        self.count = 0
        decoder_of(model).register_forward_pre_hook(self._seen)

    def _seen(self, *_: Any) -> None:
        self.count += 1


def engine(policy: str = "random", positions: str = "true", **options: Any) -> tuple[locret.Engine, Passes]:
    model = tiny_llama(max_position_embeddings=WINDOW)
    budget = locret.Budget(**{"size": 40, "chunk": 32, "local": 8, "positions": positions, **options})
    return locret.Engine(model, policy=locret.get_policy(policy), budget=budget), Passes(model)


def test_an_answer_beyond_the_window_is_refused_before_the_prompt_is_read() -> None:
    reader, passes = engine()
    message = "100 tokens and an answer of up to 30 are more than the model's window of 128: allow a shorter answer"
    with pytest.raises(locret.LocretError, match=message):
        reader.prefill([5] * 100, answer_tokens=30)
    assert passes.count == 0
    session = reader.prefill([5] * 100, answer_tokens=29)  # its last token is not read
    assert len(reader.generate(session, 29).token_ids) == 29


def test_so_is_one_behind_a_turn_that_comes_later() -> None:
    reader, passes = engine()
    with pytest.raises(locret.LocretError, match="120 tokens and an answer of up to 10 are more"):
        reader.prefill([5] * 100, answer_tokens=10, later_tokens=20)
    assert passes.count == 0
    session = reader.prefill([5] * 100, answer_tokens=9, later_tokens=20)
    with pytest.raises(locret.LocretError, match="120 tokens and an answer of up to 10 are more"):
        reader.prefill([5] * 20, session, answer_tokens=10)
    assert len(reader.generate(reader.prefill([5] * 20, session), 9).token_ids) == 9


@pytest.mark.parametrize("decode", [{}, {"decode_budget": 30, "decode_every": 4}])
def test_a_long_answer_with_compact_positions(decode: dict[str, int]) -> None:
    """It grows without a decode budget; it used to end where it met the window."""
    reader, passes = engine(positions="compact", **decode)
    prompt = [5] * 300
    if decode:
        session = reader.prefill(prompt, answer_tokens=200)
        assert len(reader.generate(session, 200).token_ids) == 200
        return
    stored = 40 + 8
    most = WINDOW - stored + 1
    message = f"{stored} stored units . an answer of up to {most + 1} are more than the model's window of 128"
    with pytest.raises(locret.LocretError, match=message):
        reader.prefill(prompt, answer_tokens=most + 1)
    assert passes.count == 0
    session = reader.prefill(prompt, answer_tokens=most, later_tokens=20)
    after = reader.prefill([7] * 20, session)
    assert len(reader.generate(after, most).token_ids) == most
    with pytest.raises(locret.LocretError, match=message):
        reader.stream(after, most + 1)


def test_a_prompt_with_compact_positions_is_refused_before_its_first_pass() -> None:
    wide, passes = engine(positions="compact", size=120)
    with pytest.raises(locret.LocretError, match=r"120 stored units . a chunk of 32 are more than the model's window"):
        wide.prefill([5] * 300)
    assert passes.count == 0
    full, passes = engine("full", positions="compact")
    with pytest.raises(locret.LocretError, match="choose a policy that evicts"):
        full.prefill([5] * 300)
    assert passes.count == 0
    assert full.prefill([5] * WINDOW).tokens_seen == WINDOW


def test_what_is_accepted_can_be_read_and_written() -> None:
    """Every length around the window: a refusal comes before the work or not at all."""
    for positions in ("true", "compact"):
        reader, passes = engine(positions=positions, size=100)
        taken = []
        for length in range(WINDOW - 24, WINDOW + 60, 3):
            before = passes.count
            try:
                session = reader.prefill([5] * length, answer_tokens=12)
            except locret.LocretError:
                assert passes.count == before
                continue
            assert len(reader.generate(session, 12).token_ids) == 12
            taken.append(length)
        assert taken[0] == WINDOW - 24 and taken[-1] < WINDOW + 57


def test_forced_tokens_with_compact_positions() -> None:
    reader, _ = engine(positions="compact")
    session = reader.prefill([5] * 300)
    assert len(reader.score(session, [3] * 81)) == 81
    with pytest.raises(locret.LocretError, match=r"48 stored units . an answer of up to 82 are more"):
        reader.score(session, [3] * 82)


def test_a_pass_of_plain_generate_is_checked_as_a_whole() -> None:
    model = tiny_llama(max_position_embeddings=WINDOW)
    budget = locret.Budget(size=120, chunk=32, local=8, positions="compact")
    cache = locret.BudgetCache(model, policy=locret.get_policy("random"), budget=budget)
    with pytest.raises(locret.LocretError, match=r"120 stored units . a chunk of 32 are more"):
        model(torch.full((1, 300), 5), past_key_values=cache)
    assert cache.tokens_seen == 0
