"""What was kept of a document: the strip in the terminal, and the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from locret.cli.common import Output

if TYPE_CHECKING:
    from locret.eval.results import Row
    from locret.eval.strip import KeptDocument

MARGIN = 2


def show_kept(
    written: Output, kept: Mapping[str, KeptDocument], rows: Sequence[Row], path: Path, shown: str, facts: str
) -> None:
    """Print the strip of one policy, and save the picture of all of them.

    Args:
        written: where to; the picture's path goes into its result.
        kept: policy -> what it kept.
        rows: of the same policies, for the headings of the picture.
        path: of the picture.
        shown: the policy of the strip.
        facts: what the triangles are, for the title.

    Raises:
        LocretError: the picture cannot be written, or matplotlib is not installed.
    """
    from locret.eval.picture import save_picture
    from locret.eval.strip import DRAWN, TYPED, strip
    from locret.eval.table import human_bytes

    signs = TYPED if written.console.options.ascii_only else DRAWN
    bars, needles = strip(kept[shown], written.console.width - 2 * MARGIN, signs)
    for line in (f"what {shown} kept, from the first token to the last:", bars, needles):
        written.console.print(" " * MARGIN + line, no_wrap=True, highlight=False)
    written.console.print(" " * MARGIN + f"{signs.found} a fact that was found   {signs.missed} one that was not")
    panels = {
        f"{row.cell.policy}: {row.measures.score:.0f} % right, {human_bytes(row.measures.kv_bytes)} of KV cache": (
            kept[row.cell.policy]
        )
        for row in rows
    }
    title = f"What is kept of {rows[0].cell.length} tokens; triangles are {facts}: green found, red not"
    save_picture(path, panels, title)
    written.notes.print(f"picture: {path}", soft_wrap=True)
    written.result["picture"] = str(path)
