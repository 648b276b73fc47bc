"""What the command's process does with its streams and signals."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TextIO

from locret.errors import LocretError


class Shown(io.TextIOWrapper):
    """Stdout: what its encoding does not have is shown as "?", and a failure is told once, in words."""

    def write(self, text: str) -> int:
        """Write a text.

        Raises:
            LocretError: nothing more can be written.
        """
        with self._telling():
            return super().write(text)

    def flush(self) -> None:
        """Write what is held back; errors as `write`."""
        with self._telling():
            super().flush()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            with open(os.devnull, "wb") as nothing:  # noqa: PTH123 - where the rest goes, at the process' end, too
                os.dup2(nothing.fileno(), self.fileno())
            raise LocretError(
                f"could not write to stdout: {error.strerror}: free some space, or let what reads it go on reading"
            ) from error


def prepare_streams() -> None:
    """Make stdout show every text that there is; streams that were closed before the start swallow theirs."""
    sys.stderr = sys.stderr or _nowhere()
    if sys.stdout is None:
        sys.stdout = _nowhere()
        return
    given = sys.stdout
    buffered = bool(given.line_buffering)
    sys.stdout = Shown(given.buffer, encoding=given.encoding, errors="replace", line_buffering=buffered)


def end_on_signals() -> None:
    """Let SIGTERM and SIGHUP end the process from inside, so that nothing half-written is left."""
    wanted = [signal.SIGTERM] if sys.platform == "win32" else [signal.SIGTERM, signal.SIGHUP]
    for number in wanted:
        if signal.getsignal(number) == signal.SIG_DFL:  # nohup ignores SIGHUP
            signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)  # what shells report for a process that a signal has ended


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8", errors="replace")  # noqa: PTH123 - it stays open
