"""JSON lines that grow while a run goes on, and survive its end at any moment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from locret.errors import LocretError
from locret.files import append, place_of
from locret.texts import as_text, parse_json
from locret.typed import as_object


class LineFile:
    """JSON objects, one a line. What an earlier run has written is there again.

    Half a line at the end, left by a run that was killed, is passed over; the next line takes its place.

    Args:
        path: the file; it is made with its folder when the first line comes.

    Attributes:
        lines: all objects, as they stand in the file.

    Raises:
        LocretError: a line other than the last is not a JSON object.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._cut: int | None = None  # where half a line begins
        self.lines: list[dict[str, Any]] = self._read() if path.exists() else []

    def append(self, line: Mapping[str, Any]) -> None:
        """Add an object; it is on the disk when this returns.

        Raises:
            LocretError: the file cannot be written, or the disk is full; what was there is untouched.
        """
        text = json.dumps(line, ensure_ascii=False)
        append(self.path, text + "\n", end=self._cut)
        self._cut = None
        self.lines.append(json.loads(text))

    def _read(self) -> list[dict[str, Any]]:
        data = place_of(self.path).read_bytes()
        whole, _, half = data.rpartition(b"\n")
        if half:
            self._cut = len(data) - len(half)
        return [self._object(number, line) for number, line in enumerate(whole.split(b"\n"), start=1) if line.strip()]

    def _object(self, number: int, line: bytes) -> dict[str, Any]:
        place = f"{self.path}, line {number}"
        try:
            return as_object(parse_json(as_text(line, place), place))
        except LocretError as error:
            raise LocretError(
                f"{place} is not a JSON object: remove the line, or choose another folder ({error})"
            ) from error
