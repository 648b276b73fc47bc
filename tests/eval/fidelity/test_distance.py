from __future__ import annotations

import math

import pytest
import torch

from locret.errors import LocretError
from locret.eval.fidelity import Continuation, distances, measured_logits


def logits(*shares: list[float]) -> torch.Tensor:
    return torch.tensor(shares).log()


def test_figures_by_hand() -> None:
    kept = logits([0.5, 0.25, 0.25], [0.1, 0.8, 0.1]) + 3.0  # logits are known up to a constant
    full = logits([0.25, 0.5, 0.25], [0.2, 0.7, 0.1])
    told = distances(kept, full, [2, 1])
    first = 0.25 * math.log(0.25 / 0.5) + 0.5 * math.log(0.5 / 0.25)
    second = 0.2 * math.log(0.2 / 0.1) + 0.7 * math.log(0.7 / 0.8)
    assert told.kl.tolist() == pytest.approx([first, second], rel=1e-5)
    assert told.agreement.tolist() == [0, 1]
    assert told.top.tolist() == [0, 1]
    assert told.nll.tolist() == pytest.approx([-math.log(0.25), -math.log(0.8)], rel=1e-5)
    assert told.full_nll.tolist() == pytest.approx([-math.log(0.25), -math.log(0.7)], rel=1e-5)


def test_only_measured_tokens_count_and_many_are_compared_piecewise() -> None:
    generator = torch.Generator().manual_seed(0)
    kept, full = torch.randn(2, 50, 11, generator=generator)
    goal, measured = torch.arange(50) % 11, torch.arange(50) % 3 == 0
    told, all_of_them = distances(kept, full, goal, measured), distances(kept, full, goal)
    assert torch.equal(told.kl, all_of_them.kl[measured])
    want = torch.nn.functional.kl_div(kept.double().log_softmax(-1), full.double().softmax(-1), reduction="none").sum(
        -1
    )
    torch.testing.assert_close(all_of_them.kl, want)


def test_equal_predictions_are_no_distance_even_with_tokens_ruled_out() -> None:
    one = torch.tensor([[0.0, 2.0, -torch.inf]])
    told = distances(one, one.clone(), [1])
    assert (told.kl.item(), told.agreement.item()) == (0, 1)


def test_measured_rows_of_pieces() -> None:
    rows = torch.arange(12.0).reshape(6, 2)
    continuation = Continuation("x", (5, 6, 7, 8, 9, 4), (False, True, True, False, False, True))
    found = measured_logits(iter(rows.split([1, 3, 2])), continuation)
    assert torch.equal(found, rows[[1, 2, 5]])
    assert continuation.targets == (6, 7, 4)
    with pytest.raises(LocretError, match="5 rows of logits were given for 6 tokens"):
        measured_logits([rows[:5]], continuation)


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(LocretError, match=r"logits are \(2, 3\), full attention's \(2, 4\) for 2 tokens"):
        distances(torch.zeros(2, 3), torch.zeros(2, 4), [0, 1])
