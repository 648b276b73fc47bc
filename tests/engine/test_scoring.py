"""Given tokens are scored as if they had been answered."""

from __future__ import annotations

import pytest
import torch

import locret
from tests.conftest import make_policy, tiny_llama
from tests.gold import Reading, dense_logits, recorded

PROMPT, FORCED = 203, 77


def ids(count: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(1, 97, (1, count), generator=torch.Generator().manual_seed(seed))


def budget(**changes: object) -> locret.Budget:
    return locret.Budget(**{"size": 40, "chunk": 48, "stabilizers": 8, "local": 10, **changes})


@pytest.mark.parametrize("positions", ["true", "compact"])
def test_under_the_full_policy_it_is_plain_transformers(positions: str) -> None:
    model = tiny_llama()
    engine = locret.Engine(model, policy=locret.get_policy("full"), budget=budget(positions=positions))
    prompt, forced = ids(PROMPT), ids(FORCED, seed=2)
    scores = engine.score(engine.prefill(prompt), forced)
    with torch.no_grad():
        plain = model(torch.cat([prompt, forced], -1)).logits[0, PROMPT - 1 : -1]
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("positions", ["true", "compact"])
@pytest.mark.parametrize("name", ["locret", "snapkv", "streaming_llm"])
def test_under_eviction_it_is_a_dense_pass_that_hides_the_evicted(name: str, positions: str) -> None:
    model = tiny_llama()
    engine = locret.Engine(model, policy=make_policy(name, model), budget=budget(positions=positions))
    prompt, forced, reading = ids(PROMPT), ids(FORCED, seed=2), Reading(positions)
    with recorded(model, reading):
        scores = engine.score(engine.prefill(prompt), forced)
    everything = torch.cat([prompt, forced[:, :-1]], -1)
    expected = dense_logits(model, everything, reading)[0, PROMPT - 1 :]
    assert float((scores - expected).norm() / expected.norm()) < 1e-4
    blind = Reading(positions, [type(reading.passes[0])(0, everything.shape[1], None)])
    other = dense_logits(model, everything, blind)[0, PROMPT - 1 :]
    assert float((scores - other).norm() / other.norm()) > 1e-2


@pytest.mark.parametrize("limits", [{}, {"decode_budget": 5}])
def test_an_answer_of_its_own_scores_as_it_was_written(limits: dict[str, int]) -> None:
    """With a decode budget, too, whose cuts depend on tokens coming one by one."""
    model = tiny_llama()
    engine = locret.Engine(model, policy=make_policy("locret", model), budget=budget(**limits))
    session = engine.prefill(ids(PROMPT))
    answer = engine.generate(session, FORCED)
    scores = engine.score(session, answer.token_ids)
    assert scores.argmax(-1).tolist() == answer.token_ids
    torch.testing.assert_close(scores[-1], answer.session.logits, rtol=1e-4, atol=1e-4)


def test_the_session_stays_and_pieces_are_short() -> None:
    model = tiny_llama()
    engine = locret.Engine(model, policy=make_policy("locret", model), budget=budget())
    session = engine.prefill(ids(PROMPT))
    first = [piece.clone() for piece in engine.score_pieces(session, ids(FORCED, seed=2))]
    assert session.tokens_seen == PROMPT
    assert [len(piece) for piece in first] == [1, 32, 32, 12]
    assert torch.equal(torch.cat(first), engine.score(session, ids(FORCED, seed=2)))
    assert torch.equal(engine.score(session, [3]), session.logits[None])


def test_what_an_answer_left_pending_is_read_first() -> None:
    model = tiny_llama()
    engine = locret.Engine(model, policy=locret.get_policy("full"), budget=budget())
    prompt, forced = ids(PROMPT), ids(9, seed=2)
    answer = engine.generate(engine.prefill(prompt), 4)
    scores = engine.score(answer.session, forced)
    with torch.no_grad():
        whole = torch.cat([prompt, torch.tensor([answer.token_ids]), forced], -1)
        plain = model(whole).logits[0, PROMPT + 3 : -1]
    torch.testing.assert_close(scores, plain, rtol=1e-4, atol=1e-4)


def test_bad_input() -> None:
    engine = locret.Engine(tiny_llama(max_position_embeddings=256), policy=locret.get_policy("full"), budget=budget())
    session = engine.prefill(ids(PROMPT))
    with pytest.raises(locret.LocretError, match="no token to score: give at least one"):
        engine.score(session, [])
    with pytest.raises(locret.LocretError, match="token id 97 is outside the vocabulary of 97"):
        engine.score(session, [97])
    with pytest.raises(locret.LocretError, match="more than the model's window of 256"):
        engine.score(session, [1] * 55)
    assert len(engine.score(session, [1] * 54)) == 54  # the last one is predicted and not read
