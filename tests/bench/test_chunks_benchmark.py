"""`python -m benchmarks.chunks` with tiny settings: that it runs, counts what it says, and leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import chunks
from locret.plan.shapes import SHAPES
from tests.bench.test_speed_benchmark import CONFIG

LITTLE = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 4}


def test_chunks_are_read_in_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = {**SHAPES["llama-60m"], **LITTLE, "num_key_value_heads": 2, "head_dim": 8}
    monkeypatch.setitem(SHAPES, "little", shape)
    methods = {(owner, name): getattr(owner, name) for step in chunks.STEPS.values() for owner, name in step}
    config, out = tmp_path / "config.json", tmp_path / "chunks.json"
    config.write_text(json.dumps(CONFIG), encoding="utf-8")
    chunks.main(["--model", "small", "--rounds", "3", "--config", str(config), "--out", str(out)])
    found = json.loads(out.read_text(encoding="utf-8"))
    # Of 90 tokens 4 are the tail; of 5 chunks of 16 and a shorter one, those from token 48 on begin with a full cache.
    assert found["chunks"] == 3 * 2
    limit, own = found["milliseconds"]["limit"], found["milliseconds"]["locret"]
    assert limit["scores"] == limit["append"] == limit["choice"] == 0 < limit["update"] < limit["chunk"]
    assert 0 < own["scores"] + own["append"] < own["update"] and 0 < own["choice"] < own["chunk"]
    assert found["locret_over_limit"]["of_sums"] > 0 < found["locret_over_limit"]["standard_error"]
    assert methods == {(owner, name): getattr(owner, name) for owner, name in methods}
