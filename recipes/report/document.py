"""`docs/results.md`: the tables and pictures of all parts, with what is needed to read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from locret.eval.results import Row
from locret.files import write_text_whole
from recipes.report import pictures
from recipes.report.pooled import Pooled, pooled
from recipes.report.run import Part, gather, in_order, together
from recipes.report.tables import by_budget, by_bytes, by_depth, wins

HERE = Path(__file__).parent
DOCUMENT = HERE.parents[1] / "docs" / "results.md"
PICTURES = Path("assets") / "report"  # beside the document
REMARKS = HERE / "remarks.md"  # what its authors have to say of the figures, by hand
MAP_SHARE = 16  # the budget of the heat maps, and of the tables by depth, as a part of the length


def write(parts: Sequence[Part], runs: Path, out: Path = DOCUMENT) -> None:
    """Put all that has been evaluated into the document.

    Args:
        parts: of the report.
        runs: where they were evaluated.
        out: the document; its pictures are put into `assets/report` beside it.

    Raises:
        LocretError: results are damaged, or matplotlib is not installed.
    """
    pieces = [(HERE / "introduction.md").read_text(encoding="utf-8").strip()]
    if REMARKS.exists():
        pieces.append(REMARKS.read_text(encoding="utf-8").strip())
    for part in parts:
        rows = list(in_order(part, gather(part, runs)))
        if rows:
            results = pooled(rows, together(part, runs))
            pieces.append(f"## {part.title}\n\n{part.about}")
            write_one = _methods if part.by_bytes else _policies
            pieces += write_one(part, rows, results, out.parent)
    write_text_whole(out, "\n\n".join(pieces) + "\n")


def _policies(part: Part, rows: Sequence[Row], results: Sequence[Pooled], beside: Path) -> Iterable[str]:
    yield _picture(pictures.curves(part, rows, beside / PICTURES), beside, f"{part.title}: score against the budget")
    lengths = sorted({one.setting.length for one in results})
    for length in lengths:
        yield f"### {length} tokens\n\n{by_budget(results, length)}"
    ahead = wins(results)
    if ahead:
        yield "Ahead of locret by more than chance:\n\n" + "\n".join(f"- {sentence}" for sentence in ahead)
    else:
        yield "No method that evicts is ahead of locret by more than chance in any cell of these tables."
    if len(lengths) > 1:
        yield "\n".join(
            _picture(path, beside, path.stem) for path in pictures.heat_maps(results, MAP_SHARE, beside / PICTURES)
        )
    longest = lengths[-1]
    yield f"By depth of the fact, budget 1/{MAP_SHARE}, {longest} tokens:\n\n" + by_depth(
        results, longest, longest // MAP_SHARE
    )


def _methods(part: Part, rows: Sequence[Row], results: Sequence[Pooled], beside: Path) -> Iterable[str]:
    path = pictures.quality_by_bytes(part, rows, beside / PICTURES)
    yield _picture(path, beside, f"{part.title}: score against bytes")
    for length in sorted({one.setting.length for one in results}):
        yield f"### {length} tokens\n\n{by_bytes(results, length)}"


def _picture(path: Path, beside: Path, text: str) -> str:
    return f"![{text}]({path.relative_to(beside).as_posix()})"
