from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import locret
from locret.eval.picture import save_picture
from locret.eval.strip import TYPED, KeptDocument, binned, kept_shares, strip
from locret.eval.table import human_bytes, markdown_table, rich_table
from tests.conftest import tiny_llama
from tests.eval.test_results import CELL, ROW


def test_shares_count_the_layers_and_heads_that_hold_a_position() -> None:
    model = tiny_llama()
    budget = locret.Budget(size=20, chunk=16, stabilizers=4, local=5)
    engine = locret.Engine(model, policy=locret.get_policy("random"), budget=budget)
    cache = engine.prefill(list(range(90))).cache
    shares = kept_shares(cache, 90)
    counts = np.zeros(90)
    for layer in range(3):
        for head in cache.kept_positions(layer)[0]:
            counts[head.numpy()] += 1
    assert shares == pytest.approx(counts / 6)
    assert shares.sum() == pytest.approx(25)
    assert (shares[-5:] == 1).all()


def test_bins_are_means_of_equal_stretches() -> None:
    assert binned(np.array([0.0, 1.0, 1.0, 1.0]), 2) == pytest.approx([0.5, 1.0])
    assert binned(np.array([0.0, 1.0]), 80) == pytest.approx([0.0, 1.0])


def test_the_strip_shows_density_and_needles() -> None:
    shares = np.array([1.0, 1.0, 0.0, 0.0, 0.5, 0.5, 0.02, 0.0])
    bars, marks = strip(KeptDocument(shares, {1: True, 5: False}), width=4)
    assert bars == "█ ▅▁"
    assert marks == "▲ △ "
    assert strip(KeptDocument(shares, {1: True, 5: False}), 4, TYPED) == ("@ +.", "^ - ")


def test_the_picture_is_a_png(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "new" / "kept.png"
    save_picture(path, {"locret": KeptDocument(np.linspace(0, 1, 700), {3: True, 650: False})}, "title")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [file.name for file in path.parent.iterdir()] == ["kept.png"]


def test_the_markdown_table_repeats_the_policy_without_budgets() -> None:
    full = replace(CELL, policy="full", budget=replace(CELL.budget, size=512))
    rows = [
        replace(ROW, cell=full, measures=replace(ROW.measures, score=100.0)),
        ROW,
        replace(ROW, cell=replace(CELL, seed=1), measures=replace(ROW.measures, score=62.5)),
        replace(ROW, cell=replace(CELL, budget=replace(CELL.budget, size=128))),
    ]
    assert markdown_table(rows).splitlines()[2:] == [
        "| mix | 512 | 64 | 100.0 | 75.0 |",
        "| mix | 512 | 128 | 100.0 | 87.5 |",
    ]


def test_the_terminal_table_has_a_line_a_row() -> None:
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(rich_table([ROW, ROW]))
    lines = [line for line in console.export_text().splitlines() if "locret" in line]
    assert len(lines) == 2
    assert all(figure in lines[0] for figure in ("mix", "512", "64", "87.5", "64-96", "4.0 KiB"))


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3 * 2**30, "3.0 GiB")])
def test_bytes_for_people(count: int, text: str) -> None:
    assert human_bytes(count) == text
