"""Predictions that are no numbers make no answer and no score: they are refused, with what probably happened."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LogitsProcessorList

import locret
from locret.errors import LocretError
from locret.eval.fidelity import distances
from locret.models.logits import check_logits
from tests.conftest import tiny_llama

IDS = [5, 3, 8, 13]
NAN, INF = float("nan"), float("inf")


def predicting(model: Any, change: Any) -> Any:
    """The model with logits [..., vocab] that are changed, as an overflow somewhere in it would."""
    model.lm_head.register_forward_hook(lambda module, args, output: change(output.clone()))
    return model


def one_nan(logits: torch.Tensor) -> torch.Tensor:
    logits[..., 40] = NAN
    return logits


WRONG = {
    "one NaN": (one_nan, "nan"),
    "all NaN": (lambda logits: logits * NAN, "nan"),
    "all -inf": (lambda logits: logits.fill_(-INF), "-inf"),
    "an overflow": (lambda logits: logits.index_fill(-1, torch.tensor([7]), INF), "inf"),
}
WAYS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sampling": {"temperature": 1.0, "seed": 3},
    "the likeliest": {"temperature": 0.7, "top_k": 5, "top_p": 0.9, "seed": 3},
}


def engine(model: Any, **options: Any) -> locret.Engine:
    return locret.Engine(model, policy=locret.get_policy("full"), budget=locret.Budget(size=64, chunk=32), **options)


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", WRONG)
def test_no_token_is_chosen_of_them(name: str, way: str, static: bool) -> None:
    change, shown = WRONG[name]
    reader = engine(predicting(tiny_llama(), change), static=static)
    session = reader.prefill(IDS)
    expected = rf"no numbers \(the largest logit of a token is {shown}\): .*float16.*bfloat16 or float32"
    with pytest.raises(LocretError, match=expected):
        reader.generate(session, 4, **WAYS[way])


@pytest.mark.parametrize("static", [False, True])
def test_an_answer_ends_where_they_begin(static: bool) -> None:
    model = tiny_llama()
    reader = engine(model, static=static)
    session = reader.prefill(IDS)
    answer = reader.stream(session, 4)
    predicting(model, one_nan)  # the first token is chosen of what was predicted before
    with pytest.raises(LocretError, match="no numbers"):
        list(answer)
    assert len(answer.tokens) == 1
    assert session.tokens_seen == len(IDS)


def test_tokens_that_are_ruled_out_are_no_overflow() -> None:
    reader = engine(predicting(tiny_llama(), lambda logits: logits.index_fill(-1, torch.arange(90), -INF)))
    session = reader.prefill(IDS)
    for way in WAYS.values():
        assert all(token >= 90 for token in reader.generate(session, 5, **way).token_ids)


def test_processors_that_leave_nothing_are_blamed_themselves() -> None:
    reader = engine(tiny_llama())
    session = reader.prefill(IDS)
    processors = LogitsProcessorList([lambda seen, scores: scores - INF])
    for way in WAYS.values():
        with pytest.raises(LocretError, match="logits processors leave no token"):
            reader.generate(session, 3, processors=processors, **way)


def test_forced_tokens_are_not_scored_by_them() -> None:
    with pytest.raises(LocretError, match="no numbers"):
        wrong = engine(predicting(tiny_llama(), one_nan))
        wrong.score(wrong.prefill(IDS), [3])
    model = tiny_llama()
    reader = engine(model)
    session = reader.prefill(IDS)
    predicting(model, one_nan)
    pieces = reader.score_pieces(session, IDS)
    assert len(next(pieces)) == 1
    with pytest.raises(LocretError, match="no numbers"):
        next(pieces)


def test_no_distance_is_measured_of_them() -> None:
    good = torch.randn(40, 11, generator=torch.Generator().manual_seed(0))
    for change, shown in WRONG.values():
        bad = good.clone()
        bad[37] = change(bad[37].clone()) if shown != "nan" else NAN
        for sides in ((good, bad), (bad, good)):
            with pytest.raises(LocretError, match=rf"the largest logit of a token is {shown}\)"):
                distances(*sides, [3] * 40)


def test_rows_are_looked_at_one_by_one() -> None:
    check_logits(torch.tensor([[0.0, -INF], [3e38, 1.0]]))
    with pytest.raises(LocretError, match="is -inf"):
        check_logits(torch.tensor([[0.0, 1.0], [-INF, -INF]]))
