"""JSON lines, plain or gzipped: what all benchmarks and all prediction files are."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from locret.errors import LocretError
from locret.files import as_bytes, write_whole
from locret.texts import as_text, lines_of, parse_foreign_json

Damaged = Callable[[LocretError], None]  # told what is wrong with a line; it may raise that


def stop(error: LocretError) -> None:
    """Let a damaged line end everything."""
    raise error


@dataclass(frozen=True, slots=True)
class Record:
    """A JSON object and where it stands.

    Attributes:
        place: file and line, or number of the prediction, for messages.
        fields: the object.
    """

    place: str
    fields: Mapping[str, Any]

    def value(self, *names: str) -> Any:
        """The first field of these names that there is.

        Raises:
            LocretError: there is none; the message lists the fields that there are.
        """
        for name in names:
            if name in self.fields:
                return self.fields[name]
        wanted = " or ".join(map(repr, names))
        raise LocretError(f"{self.place} has no field {wanted}: its fields are {', '.join(self.fields) or 'none'}")

    def text(self, *names: str) -> str:
        """The same, for a field that holds text."""
        value = self.value(*names)
        if not isinstance(value, str):
            raise LocretError(f"{self.place} has {_short(value)} in {' or '.join(map(repr, names))}: give text")
        return value

    def texts(self, name: str) -> list[str]:
        """A field that holds a list of texts."""
        values = self.value(name)
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise LocretError(f"{self.place} has {_short(values)} in {name!r}: give a list of texts")
        return values


def read_jsonl(path: Path, damaged: Damaged = stop) -> Iterator[Record]:
    """The objects of a file, one a line; empty lines are passed over, and so are damaged ones unless `damaged` raises.

    Raises:
        LocretError: the file cannot be read, or a line is no JSON object (with its number).
    """
    for number, line in enumerate(lines_of(path), start=1):
        place = f"{path}, line {number}"
        try:
            text = as_text(line, place)
            record = _record(place, text) if text.strip() else None
        except LocretError as error:
            damaged(error)
        else:
            if record is not None:
                yield record


def write_jsonl(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write objects, one a line, whole or not at all; gzipped if the name ends in .gz.

    The same objects make the same bytes, so that files can be compared.
    """
    text = as_bytes("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    data = gzip.compress(text, mtime=0) if path.suffix == ".gz" else text
    write_whole(path, lambda temporary: temporary.write_bytes(data))


def _record(place: str, line: str) -> Record:
    fields = parse_foreign_json(line, place)
    if not isinstance(fields, dict):
        raise LocretError(f"{place} is no JSON object: {_short(fields)}")
    return Record(place, fields)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "..."
