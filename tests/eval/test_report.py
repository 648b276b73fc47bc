"""The report's recipe, with a configuration of a minute."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from locret.errors import LocretError
from locret.eval.benchmarks.jsonl import write_jsonl
from locret.eval.planning import Shard
from recipes.report import __main__ as command
from recipes.report.document import write
from recipes.report.pooled import pooled
from recipes.report.run import check_kept, gather, parts, run, together
from recipes.report.sizes import held, units_for
from recipes.report.tables import wins

SMALL = {
    "all": {"tasks": ["mix"], "keys": 2, "samples": 4, "seeds": [0, 1], "budgets": ["1/2", "1/16"]},
    "parts": {
        "last": {"title": "Last", "about": "One.", "policies": ["full", "locret", "random"], "lengths": [256, 512]},
        "bytes": {
            "title": "Bytes",
            "about": "Two.",
            "policies": ["full", "quant4"],
            "lengths": [512],
            "at_bytes": {"locret": ["quant4"], "locret+quant8": ["1/2"]},
        },
    },
}


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(SMALL))
    return path


def test_the_whole_report(configuration: Path, tmp_path: Path) -> None:
    every, runs, out = parts(configuration), tmp_path / "runs", tmp_path / "docs" / "results.md"
    for part in every:
        for index in range(2):
            run(part, runs, Shard(index, 2), Console(quiet=True))
    write(every, runs, out)
    text = out.read_text()
    assert text.count("### 512 tokens") == 2
    assert "| random |" in text
    assert "| locret+quant8 |" in text
    assert sorted(path.name for path in (out.parent / "assets" / "report").iterdir()) == [
        "bytes.png", "depth__locret.png", "depth__random.png", "last.png",
    ]  # fmt: skip
    rows = gather(every[0], runs)
    assert len(rows) == 2 * (2 + 2 * 4)  # of each length and seed: full once, the others at two budgets
    results = pooled(rows, together(every[0], runs))
    assert {len(one.lines) for one in results} == {8}
    ours, theirs = (
        next(one for one in results if (one.method, one.setting.length, one.setting.budget) == (name, 512, 256))
        for name in ("locret", "random")
    )
    ahead, low, high = ours.ahead_of(theirs)
    assert ahead == pytest.approx(ours.score()[0] - theirs.score()[0])
    assert low <= ahead <= high
    assert ours.ahead_of(ours) == (0, 0, 0)
    write_jsonl(out.parent / "last.jsonl", [row.as_json() for row in rows])
    check_kept(every, runs, out.parent)
    shutil.rmtree(together(every[0], runs))
    shutil.rmtree(runs / "last" / "1-of-2")
    with pytest.raises(LocretError, match="10 of 20 rows of last"):
        check_kept(every, runs, out.parent)
    worse = {key: {**line, "score": 0} for key, line in ours.lines.items()}
    better = {key: {**line, "score": 1} for key, line in ours.lines.items()}
    [first, *_] = ours.lines
    once = replace(ours, lines={**worse, first: {**ours.lines[first], "score": 1}})
    assert once.ahead_of(replace(ours, lines=worse))[:2] == (12.5, 0)  # one more of eight may be chance
    told = wins([replace(ours, lines=worse), replace(theirs, lines=better)])
    assert told == ["random at 256 of 512 units: +100.0 points (+100.0 to +100.0)"]


def test_without_results_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "write", lambda *given: pytest.fail("the report was written"))
    monkeypatch.setattr("sys.argv", ["report", "--write", "--runs", str(tmp_path / "nowhere")])
    with pytest.raises(SystemExit, match=r"rows of question_last, .* no report was written") as stopped:
        command.main()
    assert str(tmp_path / "nowhere") in str(stopped.value)
    with pytest.raises(LocretError, match="every row"):
        check_kept(parts(), tmp_path / "nowhere", tmp_path)


@pytest.mark.parametrize("method", ["locret", "locret+quant8", "locret+quant4", "locret+merge_v"])
@pytest.mark.parametrize("goal", ["1/8", "quant2"])
def test_budgets_of_equal_bytes(method: str, goal: str) -> None:
    units = units_for(method, goal, 4096)
    target = held("quant2", 4096, 4096) if goal == "quant2" else held("full", 4096, 4096) / 8
    assert held(method, units, 4096) <= target < held(method, units + 1, 4096)
