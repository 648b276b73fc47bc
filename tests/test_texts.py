from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from locret.errors import LocretError
from locret.eval.benchmarks.jsonl import read_jsonl
from locret.eval.haystack import Filler
from locret.eval.lines import LineFile
from locret.eval.ruler.sources import Sources
from locret.texts import argument_text, check_characters, parse_foreign_json, read_json, read_text
from locret.train.records import read_records

MARK = b"\xef\xbb\xbf"
TRAINING = {"prompt": "What is it? \u2028 \x85", "answer": "caf\u00e9 \U0001f600"}


@pytest.mark.parametrize("data", [b"a\nb", MARK + b"a\nb", b"a\r\nb", gzip.compress(MARK + b"a\r\nb", mtime=0)])
def test_the_same_text_however_it_was_saved(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "text").write_bytes(data)
    assert read_text(tmp_path / "text") == "a\nb"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("text".encode("utf-16"), "is UTF-16, not UTF-8: convert"),
        (b"caf\xe9", "byte 0xe9 at offset 3 is not UTF-8"),
        (b"\xed\xa0\x80", "byte 0xed at offset 0 is not UTF-8"),  # half of a character, written as if it were one
        (b"a\0b", "zero byte at offset 1"),
        (gzip.compress(b"text" * 99, mtime=0)[:-9], "damaged .gz file"),
        (b"\x1f\x8b" + bytes(20), "damaged .gz file"),
    ],
)
def test_what_is_not_text_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "text").write_bytes(data)
    for read in (read_text, read_json, Filler.from_file, lambda path: Sources(str(path)).essay_words()):
        with pytest.raises(LocretError, match=message):
            read(tmp_path / "text")


@pytest.mark.parametrize("begins", [b"", MARK], ids=["plain", "marked"])
@pytest.mark.parametrize("ends", [b"\n", b"\r\n"], ids=["unix", "windows"])
def test_json_lines_of_every_editor(tmp_path: Path, begins: bytes, ends: bytes) -> None:
    line = json.dumps(TRAINING, ensure_ascii=False).encode()
    path = tmp_path / "x.jsonl"
    path.write_bytes(begins + line + ends + begins + line)  # two files joined have a mark inside
    assert [dict(record.fields) for record in read_jsonl(path)] == [TRAINING] * 2
    assert LineFile(path).lines == [TRAINING]  # the last line is only half there without its end
    plain = tmp_path / "plain.jsonl"
    plain.write_bytes(line + b"\n" + line)
    assert read_records([path]).items[0].content == read_records([plain]).items[0].content


def test_separators_inside_a_text_part_no_lines(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"text": "One.\u2028Two.\x85Three.\x1cFour."}, ensure_ascii=False), encoding="utf-8")
    assert Filler.from_file(path).pieces == Filler("One. Two. Three. Four.").pieces


@pytest.mark.parametrize("read", [lambda path: list(read_jsonl(path)), lambda path: read_records([path])])
@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"prompt": "caf\xe9", "answer": "b"}', r"(:|line )2 .*byte 0xe9 at offset 15"),
        (b'{"prompt": "a \\ud83d b", "answer": "b"}', r"(:|line )2.* holds U\+D83D, half of a character"),
    ],
)
def test_a_line_that_is_not_text_is_named(
    tmp_path: Path, read: Callable[[Path], object], line: bytes, message: str
) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(json.dumps(TRAINING).encode() + b"\n" + line + b"\n")
    with pytest.raises(LocretError, match=message):
        read(path)


def test_lines_that_are_not_text_can_be_left_out_as_other_damaged_ones(tmp_path: Path) -> None:
    path, told = tmp_path / "x.jsonl", []
    path.write_bytes(b'{"a": 1}\n{"a": "\xe9"}\n{"a": "\\udc00"}\n{"a": 2}\n')
    assert [record.fields["a"] for record in read_jsonl(path, told.append)] == [1, 2]
    assert len(told) == 2


def test_whole_characters_in_two_escapes_are_text() -> None:
    assert parse_foreign_json('"\\ud83d\\ude00"', "it") == "\U0001f600"
    check_characters("caf\u00e9 \U0001f600 \ufffd", "it")


def test_bytes_of_an_argument() -> None:
    assert argument_text("caf\udcc3\udca9 \u00e9", "--question") == "caf\u00e9 \u00e9"
    with pytest.raises(LocretError, match="--question is not text: byte 0xe9 at offset 3"):
        argument_text("caf\udce9", "--question")
