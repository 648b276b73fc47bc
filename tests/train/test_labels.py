from __future__ import annotations

import pytest
import torch
from torch import Tensor

from locret.errors import LocretError
from locret.train import labels
from locret.train.labels import attention_labels, get_objective, list_objectives

HEADS, KV_HEADS, TOKENS, WIDTH, SCALING = 6, 2, 23, 4, 0.5


def naive_labels(query: Tensor, key: Tensor, rows: list[int], prompt: int, objective: str) -> Tensor:
    """The definition, one pair of tokens at a time."""
    result = torch.full((KV_HEADS, prompt), -torch.inf)
    for head in range(HEADS):
        group = head // (HEADS // KV_HEADS)
        for p in rows:
            seen = torch.stack([SCALING * query[head, p] @ key[group, j] for j in range(p + 1)])
            figures = {
                "logits": seen,
                "softmax": seen.softmax(0),
                "log_softmax": seen.log_softmax(0).clamp(min=-12),
                "root_softmax": seen.softmax(0).sqrt().sqrt(),
            }[objective]
            for j in range(min(p, prompt)):  # strictly before the row
                result[group, j] = max(result[group, j], figures[j])
    return result


@pytest.mark.parametrize("objective", list_objectives())
@pytest.mark.parametrize("rows", [[9, 10, 11], [14, 15, 16, 19, 20, 21, 22], [4, 9, 12]])
def test_labels_equal_the_naive_loop(objective: str, rows: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "ROWS_AT_ONCE", 2)
    torch.manual_seed(0)
    query = 5 * torch.randn(HEADS, TOKENS, WIDTH)
    key = 5 * torch.randn(KV_HEADS, TOKENS, WIDTH)
    found = attention_labels(query, key, torch.tensor(rows), 10, SCALING, objective)
    expected = naive_labels(query, key, rows, 10, objective)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert found.isfinite().all()


def test_half_precision_inputs_give_float32_labels() -> None:
    query, key = torch.randn(2, 5, 4).bfloat16(), torch.randn(1, 5, 4).bfloat16()
    found = attention_labels(query, key, torch.tensor([3, 4]), 3, 1.0, "logits")
    expected = (query.float() @ key.float().transpose(1, 2))[:, 3:, :3].amax(dim=(0, 1))
    torch.testing.assert_close(found[0], expected)


def test_an_unknown_objective_lists_the_known_ones() -> None:
    with pytest.raises(LocretError, match=r"'hinge'.*log_softmax, logits, root_softmax, softmax"):
        get_objective("hinge")
