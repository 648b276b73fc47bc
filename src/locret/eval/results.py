"""Results: one row a cell, appended to a file as soon as it is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from locret.errors import LocretError
from locret.eval.grid import DEFAULTS, Cell
from locret.eval.lines import LineFile
from locret.files import append
from locret.typed import from_object

RESULTS = "results.jsonl"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Subject:
    """What was evaluated, so that rows of another model or haystack are never taken for this one's.

    Attributes:
        model: name, folder or hub id.
        heads: folder or hub id of the retaining heads, "" for those that come with the model.
        weights: a digest of the weights of model and heads.
        dtype: what the model computes in.
        filler: name of the haystack.
    """

    model: str
    heads: str
    weights: str
    dtype: str
    filler: str

    @classmethod
    def from_json(cls, flat: Mapping[str, Any]) -> Subject:
        """The subject of a row; LocretError if it lacks a field, or has one of another type."""
        return from_object(cls, flat)


@dataclass(frozen=True, slots=True)
class Fidelity:
    """How far a method is from full attention, means over documents, with 95 % intervals by document.

    An interval is None where drawing documents again says nothing: of a single one.

    Attributes:
        kl: nats a measured token: KL divergence of the prediction from full attention's.
        agreement: per cent of them for which both put the same token first.
        nll: nats a measured token: negative log-probability of the token itself.
        full_nll: the same under full attention.
    """

    kl: float
    kl_low: float | None
    kl_high: float | None
    agreement: float
    agreement_low: float | None
    agreement_high: float | None
    nll: float
    nll_low: float | None
    nll_high: float | None
    full_nll: float


@dataclass(frozen=True, slots=True)
class Measures:
    """What came out of a cell.

    Attributes:
        score: per cent, as the task scores: of the questions answered right, where an answer is right or wrong.
        low, high: 95 % interval of the score, per cent (`intervals.bootstrap`).
        kv_bytes: bytes of keys and values after reading a document, wherever they are, the largest of them.
        prefill_seconds: seconds to read a document, the mean.
        decode_seconds: seconds to read a question and answer it, the mean.
        parts: parts of the score by name, where the task's authors report some.
        offloaded_bytes: those of `kv_bytes` that are not on the device, the largest of them.
        fidelity: of tasks that force a continuation, else None; its fields stand among the row's own.
    """

    score: float
    low: float
    high: float
    kv_bytes: int
    prefill_seconds: float
    decode_seconds: float
    parts: Mapping[str, float] = field(default_factory=dict)
    offloaded_bytes: int = 0
    fidelity: Fidelity | None = None

    @classmethod
    def from_json(cls, flat: Mapping[str, Any]) -> Measures:
        """The measures of a row; LocretError if it lacks one that rows have always had, or has one of another type."""
        return from_object(cls, flat, fidelity=from_object(Fidelity, flat) if "kl" in flat else None)


@dataclass(frozen=True, slots=True)
class Row:
    """A finished cell."""

    cell: Cell
    measures: Measures
    subject: Subject

    def as_json(self) -> dict[str, Any]:
        """One flat object: settings, measures, subject."""
        measures = asdict(self.measures)
        if not measures["parts"]:
            del measures["parts"]
        measures |= measures.pop("fidelity") or {}
        return {**self.cell.as_json(), **measures, **asdict(self.subject)}

    @classmethod
    def from_json(cls, flat: Mapping[str, Any]) -> Row:
        """The row of a line; LocretError if it lacks a field, or has one of another type."""
        return cls(Cell.from_json(flat), Measures.from_json(flat), Subject.from_json(flat))


class ResultFile:
    """Rows as JSON lines. A run that is started again finds the rows it has written before.

    Args:
        folder: where `results.jsonl` is, or will be. Two processes that write there would double rows: who evaluates
            is to be alone in it (`folders.alone_in`).

    Raises:
        LocretError: a line other than the last is not a JSON object.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = LineFile(folder / RESULTS)

    @property
    def path(self) -> Path:
        """The file."""
        return self._file.path

    def make(self) -> None:
        """Make the file, once it is known that there will be results; a shard without a cell has some, too: none.

        Raises:
            LocretError: nothing can be written there.
        """
        append(self.path, "")

    def find(self, cell: Cell, subject: Subject) -> Row | None:
        """The row of this very cell, if it is in the file; the last one where there are several."""
        wanted = {**cell.as_json(), **asdict(subject)}
        for line in reversed(self._file.lines):
            row = {**DEFAULTS, **line}  # older rows do not say all settings
            if wanted.items() <= row.items() and all(name in row for name in MEASURED):
                return Row(cell, self._read(Measures.from_json, row), subject)
        return None

    def _read(self, make: Callable[[Mapping[str, Any]], T], line: Mapping[str, Any]) -> T:
        try:
            return make(line)
        except LocretError as error:
            raise LocretError(
                f"{self.path} has a row in which {error}: remove the line, or choose another folder"
            ) from error

    def rows(self) -> list[Row]:
        """All whole rows of the file, in order.

        Raises:
            LocretError: a row has a field that it cannot have.
        """
        return [self._read(Row.from_json, line) for line in self._file.lines if line.keys() >= MEASURED]

    def append(self, row: Row) -> None:
        """Add a row; it is on the disk when this returns."""
        self._file.append(row.as_json())


MEASURED = {one.name for one in fields(Measures)} - {"parts", "offloaded_bytes", "fidelity"}
