from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from locret.cli.watching import BarWatch
from locret.eval.results import Row
from tests.eval.test_results import CELL, ROW


def test_the_bar_of_all_cells_ends_full() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=200, highlight=False)
    shared = replace(CELL, task="leval/coursera", keys=1)  # known to be read less often only when it begins
    cells = [CELL, replace(CELL, seed=1), shared]
    with BarWatch(console) as watch:
        watch.expect(cells)
        whole = watch._bar.tasks[-1]
        assert (whole.total, whole.description) == (512 * (2 + 2 + 16), "all 3 cells")
        watch.end(ROW, resumed=True)
        assert whole.completed == 1024
        for cell, tokens in zip(cells[1:], (1024, 512), strict=True):
            watch.begin(cell, tokens)
            watch.advance(tokens)
            watch.end(Row(cell, ROW.measures, ROW.subject), resumed=False)
        assert whole.completed == whole.total == 512 * (2 + 2 + 1)
        assert whole.time_remaining == 0
    assert "locret, leval/coursera, 512 tokens, budget 64: 87.5 %" in console.file.getvalue()  # type: ignore[attr-defined]
