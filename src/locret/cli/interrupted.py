"""What Ctrl-C leaves of a command's work, and how to go on: the one line that it ends with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Options = Mapping[str, Any]


def what_is_left(command: str, options: Options) -> str:
    """One line.

    Args:
        command: its name on the command line.
        options: its values, by parameter.
    """
    told = TELLS[command](options) if command in TELLS else ""
    return f"broken off: {told or 'nothing was saved, the same command begins anew'}"


def _training(options: Options) -> str:
    from locret.train.checkpoint import last_step
    from locret.train.folder import RunFolder

    folder = RunFolder(options["out"])
    saved = last_step(folder.checkpoints)
    if saved is None:
        return ""
    return f"step {saved} is saved in {folder.path}: the same command with --resume goes on from there"


def _evaluation(options: Options) -> str:
    from locret.eval.results import RESULTS

    out: Path | None = options["out"]
    if out is None:
        return "nothing was saved: with --out DIR the same command would go on"
    if not (out / RESULTS).exists():
        return ""
    return f"results and answers so far are in {out}: the same command goes on from there"


def _bench(options: Options) -> str:
    return "what was measured is above, nothing was saved"


TELLS: dict[str, Callable[[Options], str]] = {"train": _training, "eval": _evaluation, "bench": _bench}
