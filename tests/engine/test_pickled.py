"""Sessions are values that can be pickled and copied, and go on like the original."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch

import locret
from locret.cache.storage import list_storages
from tests.conftest import make_policy, tiny_llama

IDS = torch.randint(1, 97, (1, 200), generator=torch.Generator().manual_seed(3))
TRAINED = {"lococo"}  # these need a merger that was trained for the model
IN_FILES = {"disk"}  # these hold units in files of the process


def engine_of(model: Any, storage: str, positions: str = "true") -> locret.Engine:
    keeps = storage in ("infllm", "recall")
    budget = locret.Budget(size=64, chunk=32, stabilizers=8, local=8, positions=positions)
    return locret.Engine(
        model, policy=make_policy("full" if keeps else "locret", model), budget=budget, storage=storage
    )


def goes_on_alike(engine: locret.Engine, one: locret.Session, two: locret.Session) -> None:
    assert torch.equal(one.logits, two.logits)
    assert engine.generate(one, 5).token_ids == engine.generate(two, 5).token_ids
    more = [engine.prefill(IDS[:, :50], session) for session in (one, two)]
    assert torch.equal(more[0].logits, more[1].logits)
    for layer in range(3):
        assert torch.equal(*(session.cache.kept_positions(layer) for session in more))


@pytest.mark.parametrize("storage", sorted(set(list_storages()) - TRAINED))
def test_a_copy_goes_on(storage: str) -> None:
    model = tiny_llama()
    engine = engine_of(model, storage)
    session = engine.prefill(IDS)
    goes_on_alike(engine, session, copy.deepcopy(session))


@pytest.mark.parametrize("positions", ["true", "compact"])
@pytest.mark.parametrize("storage", sorted(set(list_storages()) - TRAINED - IN_FILES))
def test_a_saved_one_goes_on(storage: str, positions: str) -> None:
    model = tiny_llama()
    if positions == "compact" and storage in ("infllm", "recall", "merge", "merge_kv", "merge_v", "merge_scored"):
        pytest.skip("this storage needs units at their places")
    engine = engine_of(model, storage, positions)
    session, file = engine.prefill(IDS), io.BytesIO()
    torch.save(session, file)
    file.seek(0)
    goes_on_alike(engine, session, torch.load(file, weights_only=False))


def test_units_in_files_say_that_they_cannot_be_saved() -> None:
    session = engine_of(tiny_llama(), "disk").prefill(IDS)
    with pytest.raises(locret.LocretError, match="belong to this process and cannot be pickled: use storage 'dense'"):
        torch.save(session, io.BytesIO())
