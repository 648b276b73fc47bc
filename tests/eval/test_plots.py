from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

import locret
from locret.errors import LocretError
from locret.eval.plots import Found, draw_run, needle_heatmap, score_by_budget, score_by_kv_bytes
from locret.eval.plots.canvas import load_figure
from locret.eval.plots.run import found_by
from locret.eval.results import ResultFile, Row
from locret.eval.runner import run_grid
from tests.eval.oracle import SUBJECT, Oracle, grid, oracle_reader
from tests.eval.test_results import ROW

PNG = b"\x89PNG"


def rows() -> list[Row]:
    made = []
    for policy, sizes in (("full", (512,)), ("locret", (32, 64)), ("random", (64,))):
        for size in sizes:
            for seed in (0, 1):
                cell = replace(ROW.cell, policy=policy, seed=seed, budget=locret.Budget(size))
                made.append(Row(cell, replace(ROW.measures, score=50.0 + size / 16 + seed), SUBJECT))
    return made


def test_curves_are_pngs(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for draw in (score_by_budget, score_by_kv_bytes):
        assert draw(rows(), tmp_path / "new" / f"{draw.__name__}.png").read_bytes().startswith(PNG)


def test_the_heat_map_is_a_png(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = [Found(512, 0.0, 1.0), Found(1024, 0.99, 0.0), Found(1024, 1.0, 0.5)]
    assert needle_heatmap(found, tmp_path / "heat.png").read_bytes().startswith(PNG)


def test_plots_of_a_run_come_from_its_files(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    policies = {"full": Oracle(budgeted=False), "x": Oracle()}
    wanted = grid("mix", "math_find", lengths=(800, 1000), samples=2)
    made = run_grid(oracle_reader(policies), wanted, SUBJECT, ResultFile(tmp_path))
    drawn = draw_run(made, tmp_path, tmp_path / "plots")
    assert sorted(path.name for path in drawn) == [
        "budget__math_find.png", "budget__mix.png", "heat__mix__full-no-eviction.png", "heat__mix__x-budget-64.png",
        "kv_bytes__math_find.png", "kv_bytes__mix.png",
    ]  # fmt: skip
    assert all(path.read_bytes().startswith(PNG) for path in drawn)
    assert len(found_by(made, tmp_path)) == 8
    assert found_by(made, tmp_path / "elsewhere") == []


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(LocretError, match=r"no plots without matplotlib: pip install 'locret\[plot\]'"):
        load_figure()
