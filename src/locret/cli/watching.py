"""How a grid is shown while it runs: a bar for the cell at hand, a line for each finished one."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

from rich.console import Console

from locret.cli.progress import reading_bar
from locret.engine import Session
from locret.eval.grid import Cell
from locret.eval.haystack import Context
from locret.eval.reading import Read
from locret.eval.results import Row
from locret.eval.strip import KeptDocument, kept_shares


class BarWatch:
    """Progress on a console; use it as a context manager.

    Args:
        console: where to, normally stderr.
        keep_pictures: remember what every policy kept of the last document it read.

    Attributes:
        kept: policy -> what it kept.
    """

    def __init__(self, console: Console, keep_pictures: bool = False) -> None:
        self.console = console
        self.keep_pictures = keep_pictures
        self.kept: dict[str, KeptDocument] = {}
        self._bar = reading_bar(console)
        self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> BarWatch:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def begin(self, cell: Cell, tokens: int) -> None:
        """Start the bar of a cell."""
        self._bar.reset(self._task, total=tokens, description=_name(cell))

    def advance(self, tokens: int) -> None:
        """Move the bar on."""
        self._bar.advance(self._task, tokens)

    def answered(self, cell: Cell, context: Context, session: Read, right: Mapping[int, float]) -> None:
        """Remember what was kept, and which needles were found in it."""
        if self.keep_pictures and isinstance(session, Session):  # only the engine knows where its units come from
            shares = kept_shares(session.cache, session.tokens_seen)
            needles = {context.positions[index]: score == 1 for index, score in right.items()}
            self.kept[cell.policy] = KeptDocument(shares, needles)

    def end(self, row: Row, resumed: bool) -> None:
        """Print a finished cell."""
        remark = " (from an earlier run)" if resumed else ""
        self.console.print(f"{_name(row.cell)}: {row.measures.score:.1f} %{remark}", soft_wrap=True)


def _name(cell: Cell) -> str:
    return f"{cell.policy}, {cell.task}, {cell.length} tokens, budget {cell.budget.size}"
