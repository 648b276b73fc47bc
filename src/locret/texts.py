"""Text from files, plain or gzipped: UTF-8 with or without a mark at its beginning; all else is refused in words."""

from __future__ import annotations

import codecs
import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from locret.errors import LocretError

GZIP_MAGIC = b"\x1f\x8b"
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
MARK = "\ufeff"  # Windows' editors begin a file with it, and files that were joined have it inside, too
SURROGATE = re.compile("[\ud800-\udfff]")  # half of a character, which no UTF-8 can write
MAY_ESCAPE_ONE = re.compile(r"\\u[dD][89a-fA-F]")


def read_text(path: Path) -> str:
    r"""The whole text of a file, its lines ended by "\n" wherever it was written.

    Raises:
        LocretError: it cannot be read, or is not text; the message says where and what to do.
    """
    return as_text(b"".join(lines_of(path)), str(path)).replace("\r\n", "\n")


def read_json(path: Path) -> Any:
    """The JSON value that a file holds.

    Raises:
        LocretError: as `read_text`, or it is no JSON.
    """
    return parse_json(read_text(path), str(path))


def lines_of(path: Path) -> Iterator[bytes]:
    """The lines of a file as they stand there, plain or gzipped, whatever its name; it is opened once.

    Raises:
        LocretError: it is missing, a folder, damaged, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            zipped = file.peek(len(GZIP_MAGIC)).startswith(GZIP_MAGIC)
            yield from cast("IO[bytes]", gzip.GzipFile(fileobj=file)) if zipped else file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise LocretError(f"cannot read {path}, a damaged .gz file ({error}): fetch it again") from error
    except OSError as error:
        raise LocretError(f"cannot read {path}: {error.strerror or error}: check the path") from error


def as_text(data: bytes, place: str) -> str:
    """Bytes as text.

    Args:
        data: bytes of a file, or of a line of one.
        place: which, for messages.

    Raises:
        LocretError: they are not UTF-8, or not text at all.
    """
    if data.startswith(UTF_16):
        raise LocretError(f"{place} is UTF-16, not UTF-8: convert it to UTF-8 text first (iconv -f UTF-16 -t UTF-8)")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise LocretError(
            f"{place} is not text: byte 0x{data[error.start]:02x} at offset {error.start} is not UTF-8: "
            "convert it to UTF-8 text first (iconv, pdftotext)"
        ) from None
    if "\0" in text:
        raise LocretError(f"{place} is not text: zero byte at offset {data.index(0)}: convert it to UTF-8 text first")
    return text.removeprefix(MARK)


def parse_json(text: str, place: str) -> Any:
    """The value of a JSON text.

    Raises:
        LocretError: it is no JSON, or more than can be read.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if "\n" in text.strip() else ""
        raise LocretError(f"{place} is not JSON: {error.msg} at {line}column {error.colno}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, a thousand brackets
        raise LocretError(f"{place} cannot be read as JSON: {error}") from error


def parse_foreign_json(text: str, place: str) -> Any:
    """The same of other people's JSON, whose texts are read by a model: they have to consist of characters.

    Raises:
        LocretError: as `parse_json`, or a text in it holds half of a character.
    """
    value = parse_json(text, place)
    if MAY_ESCAPE_ONE.search(text):
        check_characters(json.dumps(value, ensure_ascii=False), place)
    return value


def check_characters(text: str, place: str) -> None:
    """Refuse a text that holds what is no character: no tokenizer can read it, and no file can hold it.

    Raises:
        LocretError: naming the first.
    """
    found = SURROGATE.search(text)
    if found:
        raise LocretError(
            f"{place} holds U+{ord(found[0]):04X}, half of a character (a lone surrogate): "
            "write the whole character, or U+FFFD in its place"
        )


def argument_text(text: str, option: str) -> str:
    """The text of an argument, which Python hands on byte by byte where it is not of the locale's encoding.

    Raises:
        LocretError: it is not UTF-8.
    """
    data = text.encode("utf-8", errors="surrogateescape")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise LocretError(
            f"{option} is not text: byte 0x{data[error.start]:02x} at offset {error.start} is not UTF-8: "
            "set the terminal to UTF-8, or write the character anew"
        ) from None
