"""The heads of SmolLM2 that come with the package: found under every name, and worth having."""

from __future__ import annotations

from typing import Any

import pytest

import locret
from locret.cli.budget import newest_of
from locret.eval.fidelity import build_passage, distances, measured_logits
from locret.eval.haystack import Filler
from locret.models.checkpoint import resolve
from tests.real import real_model

LENGTH, SIZE, FACTS = 768, 192, 4


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Any]:
    return locret.load_model(real_model("smollm2", tmp_path_factory), device="cpu")


def test_they_come_with_the_file_under_its_own_name_too(smollm2: tuple[Any, Any, Any]) -> None:
    model, _, heads = smollm2
    header = resolve("smollm2").gguf
    assert heads is not None and header is not None
    heads.check_fits(model)
    _, _, others = locret.load_model(str(header.path), device="cpu")
    assert others is not None and others.config == heads.config


def test_they_keep_facts_that_a_window_loses(smollm2: tuple[Any, Any, Any]) -> None:
    model, tokenizer, heads = smollm2
    passage = build_passage(tokenizer, Filler.python_reference(), LENGTH, 0, chat=True, facts=FACTS)
    forced = passage.continuations["facts"]
    budget = locret.Budget(size=SIZE, chunk=256, pin_first=4, pin_newest=newest_of(SIZE))

    def rows(policy: Any) -> Any:
        engine = locret.Engine(model, tokenizer, policy=policy, budget=budget)
        return measured_logits(engine.score_pieces(engine.prefill(passage.ids), forced.ids), forced)

    full = rows(locret.get_policy("full"))
    ours = distances(rows(locret.get_policy("locret", heads=heads)), full, forced.targets)
    window = distances(rows(locret.get_policy("streaming_llm")), full, forced.targets)
    assert ours.kl.mean() < 0.7 * window.kl.mean()
    assert ours.agreement.mean() > window.agreement.mean()
