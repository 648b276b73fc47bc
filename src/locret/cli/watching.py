"""How a grid is shown while it runs: bars for the cell at hand and for all, a line for each finished cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import TaskID

from locret.cli.progress import reading_bar
from locret.engine import Session
from locret.eval.grid import Cell
from locret.eval.quizzes.contract import Passage
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
        self._whole: TaskID | None = None
        self._work: dict[Cell, int] = {}
        self._ended = 0

    def __enter__(self) -> BarWatch:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def expect(self, planned: Sequence[Cell]) -> None:
        """All cells that will be evaluated, for the bar that says when the whole run ends."""
        self._work = {cell: cell.length * -(-cell.samples // cell.keys) for cell in planned}
        self._whole = self._bar.add_task(f"all {len(planned)} cells", total=sum(self._work.values()))

    def begin(self, cell: Cell, tokens: int) -> None:
        """Start the bar of a cell."""
        self._work[cell] = tokens  # known better than before
        if self._whole is not None:
            self._bar.update(self._whole, total=sum(self._work.values()))
        self._bar.reset(self._task, total=tokens, description=_name(cell))

    def advance(self, tokens: int) -> None:
        """Move the bars on."""
        self._bar.advance(self._task, tokens)
        if self._whole is not None:
            self._bar.advance(self._whole, tokens)

    def answered(self, cell: Cell, passage: Passage, session: Read, right: Mapping[int, float]) -> None:
        """Remember what was kept, and which needles were found in it."""
        if self.keep_pictures and isinstance(session, Session):  # only the engine knows where its units come from
            shares = kept_shares(session.cache, session.tokens_seen)
            placed = {passage.questions[index].position: score == 1 for index, score in right.items()}
            needles = {position: found for position, found in placed.items() if position is not None}
            self.kept[cell.policy] = KeptDocument(shares, needles)

    def end(self, row: Row, resumed: bool) -> None:
        """Print a finished cell."""
        self._ended += self._work.get(row.cell, 0)
        if self._whole is not None:  # a cell of an earlier run, or of another process, was not seen to advance
            self._bar.update(self._whole, completed=self._ended)
        remark = " (from an earlier run)" if resumed else ""
        self.console.print(f"{_name(row.cell)}: {row.measures.score:.1f} %{remark}", soft_wrap=True)


def _name(cell: Cell) -> str:
    return f"{cell.policy}, {cell.task}, {cell.length} tokens, budget {cell.budget.size}"
