"""The header of a GGUF file: what the model is, and which tensors lie where. What is wrong with it is said in words.

A GGUF file is a header of key-value pairs, a table of tensors, and their data (version 2 and 3, little-endian). Long
tables of strings, which are a vocabulary and its merges, are counted, not read: this takes a third of a second.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from locret.errors import LocretError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = 32  # of tensor data, where the file does not say
PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
DAMAGED = (struct.error, ValueError, OverflowError, MemoryError)  # what reading beyond the end raises
FETCH = "fetch it again"


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of the file.

    Attributes:
        shape: as torch counts, rows first.
        kind: the number of its quantisation type.
        offset: of its first byte in the file.
    """

    shape: tuple[int, ...]
    kind: int
    offset: int


@dataclass(frozen=True)
class Header:
    """What a GGUF file says of itself.

    Attributes:
        path: the file.
        values: its key-value pairs; lists of strings are their lengths.
        tensors: name -> where it is.
    """

    path: Path
    values: dict[str, Any]
    tensors: dict[str, Entry]

    @property
    def architecture(self) -> str:
        """Llama.cpp's name of the model's architecture, which its keys begin with."""
        return str(self.values["general.architecture"])

    def value(self, key: str) -> Any:
        """The value of a key of the architecture, such as `block_count`; None where it is not told."""
        return self.values.get(f"{self.architecture}.{key}")

    @cached_property
    def _bytes(self) -> np.ndarray:
        return np.memmap(self.path, mode="r", dtype=np.uint8)

    def read(self, name: str) -> np.ndarray:
        """A tensor in fp32, with the shape that torch counts."""
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize

        entry = self.tensors[name]
        kind = GGMLQuantizationType(entry.kind)
        block, size = GGML_QUANT_SIZES[kind]
        data = self._bytes[entry.offset : entry.offset + prod(entry.shape) // block * size]
        rows = data.reshape(*entry.shape[:-1], entry.shape[-1] // block * size)
        return dequantize(rows, kind).reshape(entry.shape)


def read_header(path: Path) -> Header:
    """Read and check the header of a GGUF file; no weights are read.

    Raises:
        LocretError: it is none, is damaged, cut short or of a kind that cannot be loaded; the message says which.
    """
    if find_spec("gguf") is None:
        raise LocretError(f"{path} is a GGUF file, which needs the package gguf: pip install gguf")
    try:
        with path.open("rb") as file:
            start = file.read(len(MAGIC) + 4)
            _check_start(path, start)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                header, end = _read(path, data)
    except DAMAGED as error:
        if isinstance(error, LocretError):
            raise
        raise LocretError(f"{path} is damaged or cut short: its header cannot be read ({error}): {FETCH}") from error
    except OSError as error:
        raise LocretError(f"{path} cannot be read ({error.strerror}): check the path") from error
    _check_model(header)
    _check_size(header, end)
    return header


def is_gguf(path: Path) -> bool:
    """Whether a file is meant to be a GGUF file: by its name, or by how it begins."""
    if path.suffix.lower() == ".gguf":
        return True
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _check_start(path: Path, start: bytes) -> None:
    if not start:
        raise LocretError(f"{path} is empty: {FETCH}")
    if start[: len(MAGIC)] != MAGIC:
        raise LocretError(
            f"{path} is no GGUF file, as it begins with {start[: len(MAGIC)]!r} and not {MAGIC!r}: name one, or {FETCH}"
        )
    (version,) = struct.unpack_from("<I", start, len(MAGIC))
    if version in VERSIONS:
        return
    known = " and ".join(map(str, VERSIONS))
    if int.from_bytes(start[len(MAGIC) :], "big") in VERSIONS:
        raise LocretError(f"{path} is a big-endian GGUF file: only little-endian ones are read, fetch that one")
    raise LocretError(f"{path} has GGUF version {version}, known are {known}: convert the model again")


def _read(path: Path, data: mmap.mmap) -> tuple[Header, int]:
    """The header, and the first byte after the data of all tensors."""
    at = _Cursor(data, len(MAGIC) + 4)
    tensors, pairs = at.number("Q"), at.number("Q")
    values = {}
    for _ in range(pairs):
        key = at.text()
        values[key] = at.value(at.number("I"))
    alignment = values.get("general.alignment", ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1:
        raise LocretError(f"{path} aligns its tensors to {alignment!r} bytes, which is no number of bytes: {FETCH}")
    table = {}
    for _ in range(tensors):
        name, dimensions = at.text(), at.number("I")
        shape = tuple(at.number("Q") for _ in range(dimensions))[::-1]
        table[name] = Entry(shape, at.number("I"), at.number("Q"))
    start = -(-at.place // alignment) * alignment
    placed, end = {}, start
    for name, entry in table.items():
        placed[name] = Entry(entry.shape, entry.kind, start + entry.offset)
        block, size = _readable(path, name, entry)
        end = max(end, start + entry.offset + prod(entry.shape) // block * size)
    return Header(path, values, placed), end


def _readable(path: Path, name: str, entry: Entry) -> tuple[int, int]:
    """Numbers and bytes of a block of the tensor's type, if it can be made plain numbers."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize

    known = {kind.value: kind for kind in GGMLQuantizationType}
    called = known[entry.kind].name if entry.kind in known else f"number {entry.kind}"
    try:
        kind = known[entry.kind]
        block, size = GGML_QUANT_SIZES[kind]
        dequantize(np.zeros((1, size), dtype=np.uint8), kind)
    except (KeyError, NotImplementedError) as error:
        raise LocretError(
            f"{path}: {name} has the quantisation type {called}, which cannot be dequantised here: "
            "take a file quantised otherwise, as Q8_0 or Q4_K_M"
        ) from error
    if not entry.shape or entry.shape[-1] % block:
        raise LocretError(f"{path}: {name} has shape {list(entry.shape)}, but {called} has blocks of {block}: {FETCH}")
    return block, size


def _check_model(header: Header) -> None:
    """Refuse files that hold something else than a whole language model."""
    path, values = header.path, header.values
    part = PART.search(path.name)
    parts = int(part[2]) if part else values.get("split.count", 1)
    _check_whole(header, "split.count", "number of parts")
    if parts > 1:
        raise LocretError(
            f"{path} is one of {parts} parts of a model: join them (`llama-gguf-split --merge`) and name the whole"
        )
    if "general.architecture" not in values:
        raise LocretError(f"{path} does not say its architecture (general.architecture): {FETCH}")
    kind = values.get("general.type", "model")
    if header.architecture == "clip" or kind == "mmproj" or "mmproj" in path.name.lower():
        raise LocretError(f"{path} is the image projector (mmproj) of a model: name the file of its language model")
    if kind != "model":
        raise LocretError(f"{path} holds no model but {kind!r}: name the file of the model")
    _check_whole(header, "tokenizer.ggml.tokens", "list of tokens")  # of which the length is read
    for name in ("bos", "eos", "eot", "padding"):
        _check_whole(header, f"tokenizer.ggml.{name}_token_id", "token id")


def _check_whole(header: Header, key: str, what: str) -> None:
    """Refuse a key that is told, but not read as a whole number."""
    value = header.values.get(key, 0)
    if not isinstance(value, int):
        raise LocretError(f"{header.path} has {key} of {str(value)[:40]!r}, which is no {what}: {FETCH}")


def _check_size(header: Header, end: int) -> None:
    size = header.path.stat().st_size
    if size < end:
        raise LocretError(f"{header.path} is cut short: it has {size} bytes of {end}: {FETCH}")


class _Cursor:
    """Reads one value after another; beyond the end it raises `struct.error` or `ValueError`."""

    def __init__(self, data: mmap.mmap, place: int) -> None:
        self.data = data
        self.place = place

    def number(self, form: str) -> Any:
        (value,) = self.numbers(form, 1)
        return value

    def numbers(self, form: str, count: int) -> tuple[Any, ...]:
        size = count * struct.calcsize(f"<{form}")
        self._check(size)
        values = struct.unpack_from(f"<{count}{form}", self.data, self.place)
        self.place += size
        return values

    def text(self) -> str:
        length = self.number("Q")
        self._check(length)
        self.place += length
        return self.data[self.place - length : self.place].decode("utf-8")

    def value(self, kind: int) -> Any:
        """A value of a type; of a list of strings its length."""
        if kind in NUMBERS:
            return self.number(NUMBERS[kind])
        if kind == STRING:
            return self.text()
        if kind != ARRAY:
            raise ValueError(f"no type of values has the number {kind}")
        of, count = self.numbers("I", 1)[0], self.numbers("Q", 1)[0]
        if of in NUMBERS:
            return list(self.numbers(NUMBERS[of], count))
        if of != STRING:
            raise ValueError(f"no list can be of type {of}")
        read: Callable[..., tuple[int]] = struct.Struct("<Q").unpack_from
        data, place = self.data, self.place
        for _ in range(count):
            place += 8 + read(data, place)[0]
        self.place = place
        self._check(0)
        return count

    def _check(self, size: int) -> None:
        if self.place + size > len(self.data):
            raise ValueError(f"it ends after {len(self.data)} bytes")
