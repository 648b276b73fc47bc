"""`python -m benchmarks.speed` with tiny settings: that it runs and says what it measured, never how fast it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import locret
from benchmarks import speed, speed_chunks
from benchmarks.document import fill, table
from benchmarks.speed_bounds import bounds
from locret.plan.shapes import SHAPES

BUDGET = {"size": 32, "chunk": 16, "stabilizers": 4, "local": 4}
CONFIG: dict[str, Any] = {
    "models": {"small": {"shape": "little", "layers": 1, "width": 8, "length": 90, "budget": BUDGET, "turns": 2}},
    "prefill": {"against": ["full", "transformers"], "repeats": 2},
    "chunks": {"repeats": 3},
    "decode": {
        "model": "small", "seen": 120, "tokens": 3, "turns": 2, "repeats": 2,
        "budget": {**BUDGET, "positions": "compact"},
    },
    "rivals": {"model": "small", "length": 60, "repeats": 1, "contestants": ["limit", "streaming_llm", "tova"]},
    "bounds": {"locret_over_limit": 1e9, "flop_share": 0.0, "decode_ratio": 1e9},
}  # fmt: skip
PAGE = "before\n<!-- speed:start -->\nold\n<!-- speed:end -->\nafter\n"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    little = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 4}
    shape = {**SHAPES["llama-60m"], **little, "num_key_value_heads": 2, "head_dim": 8}
    monkeypatch.setitem(SHAPES, "little", shape)
    monkeypatch.setattr("locret.bench.roofline.MATRIX", {"cpu": 64})
    monkeypatch.setattr("locret.bench.roofline.BUFFER", {"cpu": 1 << 16})
    (tmp_path / "page.md").write_text(PAGE, encoding="utf-8")

    def call(*arguments: str, **changes: Any) -> tuple[int, dict[str, Any], str]:
        (tmp_path / "config.json").write_text(json.dumps({**CONFIG, **changes}), encoding="utf-8")
        places = {"config": "config.json", "out": "results.json", "page": "page.md", "plot": "plot.png"}
        given = [part for name, place in places.items() for part in (f"--{name}", str(tmp_path / place))]
        code = speed.main([*given, *arguments])
        result = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
        return code, result, (tmp_path / "page.md").read_text(encoding="utf-8")

    return call


def test_every_part_is_measured_and_written_down(run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    code, result, page = run("--check")
    assert code == 0
    parts = result["parts"]
    assert list(parts) == ["prefill/small", "chunks/small", "decode", "rivals", "profile/small"]
    for part in parts.values():
        assert part["machine"]["threads"] >= 1 and part["machine"]["torch"]
        assert part["config"]["subject"]["length"] == 90
    reading = parts["prefill/small"]
    assert [row["policy"] for row in reading["rows"]] == ["limit", "locret", "full", "transformers"]
    assert all(len(row["prefill_seconds_all"]) == 2 for row in reading["rows"])
    by_name = {row["policy"]: row for row in reading["rows"]}
    assert by_name["full"]["flops"] == by_name["transformers"]["flops"] > by_name["locret"]["flops"]
    assert by_name["locret"]["flops"] > by_name["limit"]["flops"]  # its heads
    assert len(reading["locret_over_limit"]["rounds"]) == len(reading["full_over_locret"]["rounds"]) == 2
    gain = reading["full_over_locret"]["of_rounds"] / reading["full_over_locret_flops"]
    assert reading["flop_share"]["of_rounds"] == pytest.approx(gain)
    many, few, static = parts["decode"]["rows"]
    assert (many["seen"], few["seen"]) == (120, 36)
    assert many["kept"] == few["kept"] == 36
    assert many["kv_bytes"] == few["kv_bytes"]
    assert static["static"] and static["seen"] == 120
    assert parts["decode"]["static_over_growing"]["of_rounds"] > 0
    assert set(parts["rivals"]["over_limit"]) == {"streaming_llm", "tova"}
    assert sum(own["share"] for own in parts["profile/small"]["parts"]) == pytest.approx(1.0, abs=0.05)
    assert [bound["holds"] for bound in result["bounds"]] == [True] * 4
    assert capsys.readouterr().out.count("pass  ") == 4
    assert "\n### Reading, small\n" in page
    assert page.startswith("before\n<!-- speed:start -->\n![") and page.endswith(":end -->\nafter\n")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_chunks_in_turns_are_timed_step_by_step(run: Any) -> None:
    methods = {(owner, name): getattr(owner, name) for step in speed_chunks.STEPS.values() for owner, name in step}
    _, result, page = run("--only", "chunks")
    part = result["parts"]["chunks/small"]
    # Of 90 tokens 4 are the tail; of 5 chunks of 16 and a shorter one, those from token 32 on begin with a full cache.
    assert part["chunks"] == 3 * 2 * 3
    assert len(part["locret_over_limit"]["rounds"]) == 3
    limit, own = (row["milliseconds"] for row in part["rows"])
    assert limit["scores"] == limit["append"] == limit["choice"] == 0 < limit["update"] < limit["chunk"]
    assert 0 < own["scores"] + own["append"] < own["update"] < own["chunk"] and 0 < own["choice"] < own["chunk"]
    assert methods == {(owner, name): getattr(owner, name) for owner, name in methods}
    assert "\n### Chunks in turns, small\n" in page and "3 rounds of 2 readings" in page


def test_one_part_leaves_the_others_and_a_broken_bound_is_told(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    run("--only", "rivals")
    strict = {**CONFIG["bounds"], "decode_ratio": 0.0}
    code, result, _ = run("--only", "decode", "--check", bounds=strict)
    assert set(result["parts"]) == {"rivals", "decode"}
    assert code == 1
    assert "FAIL  writing after 120 tokens over after 36" in capsys.readouterr().out
    code, again, _ = run("--only", bounds=strict)  # measures nothing; without --check nothing fails
    assert code == 0 and again["parts"] == result["parts"]
    with pytest.raises(locret.LocretError, match=r"no part 'write': choose from prefill/small, chunks/small, decode"):
        run("--only", "write")


def test_bounds_are_judged_by_the_rounds() -> None:
    ratio = {"of_rounds": 1.2, "of_medians": 1.0}
    part = {
        "config": {"subject": {"length": 9}}, "locret_over_limit": ratio, "flop_share": {**ratio, "of_rounds": 0.7},
    }  # fmt: skip
    limits = {"locret_over_limit": 1.05, "flop_share": 0.8, "decode_ratio": 1.03}
    assert [bound.holds for bound in bounds({"prefill/m": part}, limits)] == [False, False]
    assert [bound.holds for bound in bounds({"prefill/m": part}, {**limits, "flop_share": 0.6})] == [False, True]
    finer = {"config": part["config"], "locret_over_limit": {**ratio, "of_rounds": 1.04}}
    found = bounds({"prefill/m": part, "chunks/m": finer}, limits)
    # The finer one does not stand for the other.
    assert [(bound.value, bound.holds) for bound in found] == [(1.2, False), (0.7, False), (1.04, True)]


def test_the_configuration_that_is_committed_is_one() -> None:
    config = json.loads(speed.CONFIG.read_text(encoding="utf-8"))
    assert set(speed.parts_of(config)) >= {"prefill/builtin", "decode", "rivals", "profile/builtin"}
    for name in speed.parts_of(config):
        assert speed.settings_of(name, config)["subject"]["budget"]


def test_pages(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE, encoding="utf-8")
    fill(page, "speed", table(("a", "b"), [("x", "1")]))
    assert page.read_text(encoding="utf-8") == PAGE.replace("old", "| a | b |\n| --- | --: |\n| x | 1 |")
    with pytest.raises(locret.LocretError, match="does not have <!-- gpu:start -->"):
        fill(page, "gpu", "")
