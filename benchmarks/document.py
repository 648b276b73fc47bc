"""Tables in pages: what stands between a pair of markers is written by the script that measured it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from locret.errors import LocretError
from locret.files import write_text_whole

SPEED = Path(__file__).parents[1] / "docs" / "speed.md"


def fill(path: Path, name: str, text: str) -> None:
    """Put `text` between `<!-- NAME:start -->` and `<!-- NAME:end -->`.

    Raises:
        LocretError: the page does not have the two markers, once each and in this order.
    """
    start, end = (f"<!-- {name}:{which} -->" for which in ("start", "end"))
    page = path.read_text(encoding="utf-8")
    before, after = page.find(start), page.find(end)
    if page.count(start) != 1 or page.count(end) != 1 or after < before:
        raise LocretError(f"{path} does not have {start} and then {end}, once each: put them where the table goes")
    write_text_whole(path, f"{page[:before]}{start}\n{text.strip()}\n{page[after:]}")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A table in Markdown; the first `left` columns are words, the others figures."""
    rule = ["---" if i < left else "--:" for i in range(len(columns))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [columns, rule, *rows])
