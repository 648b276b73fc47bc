"""Reading training records: JSON lines or a JSON list, plain or gzipped, from here or the hub."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from locret.errors import LocretError
from locret.texts import as_text, lines_of, parse_foreign_json, parse_json
from locret.train.contents import Content
from locret.train.forms import recognise
from locret.train.hub import fetch_dataset


@dataclass(frozen=True, slots=True)
class Record:
    """One training record and where it stands.

    Attributes:
        place: `file:line` (for a JSON list: `file, record n`), for messages.
        content: what it says.
    """

    place: str
    content: Content


@dataclass(frozen=True, slots=True)
class Records:
    """All records of a run.

    Attributes:
        items: the records, in the order of the files.
        fingerprint: SHA-256 of their texts; what the files are called does not matter.
    """

    items: tuple[Record, ...]
    fingerprint: str


def read_records(sources: Sequence[str | Path]) -> Records:
    """Read and check every record of the given files or hub data sets.

    Raises:
        LocretError: a file that cannot be read, a bad record (with file and line), or none at all.
    """
    digest = hashlib.sha256()
    items: list[Record] = []
    for path in (path for source in sources for path in _files(source)):
        for place, text in _texts(path):
            digest.update(text.strip().encode() + b"\n")
            items.append(_record(place, text))
    if not items:
        raise LocretError(f"{', '.join(map(str, sources))}: there is no training record in there")
    return Records(tuple(items), digest.hexdigest())


def _files(source: str | Path) -> list[Path]:
    path = Path(source)
    if path.is_file():
        return [path]
    if path.is_dir():
        raise LocretError(f"{path} is a folder: name the files in it")
    return fetch_dataset(str(source))


def _record(place: str, text: str) -> Record:
    try:
        return Record(place, recognise(parse_foreign_json(text, "it")))
    except LocretError as error:
        raise LocretError(f"{place}: bad training record: {error}") from error


def _texts(path: Path) -> Iterator[tuple[str, str]]:
    """The place and the JSON of each record."""
    lines = lines_of(path)
    for number, line in enumerate(lines, 1):
        text = as_text(line, f"{path}:{number}")
        if number == 1 and text.lstrip().startswith("["):
            yield from _listed(path, as_text(line + b"".join(lines), str(path)))
        elif text.strip():
            yield f"{path}:{number}", text


def _listed(path: Path, text: str) -> Iterator[tuple[str, str]]:
    try:
        records: list[Any] = parse_json(text, "it")
    except LocretError as error:
        raise LocretError(f"{path} is neither JSON lines nor one JSON list: {error}") from error
    for number, record in enumerate(records, 1):
        yield f"{path}, record {number}", json.dumps(record)
