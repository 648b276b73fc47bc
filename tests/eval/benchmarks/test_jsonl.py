from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from locret.errors import LocretError
from locret.eval.benchmarks.jsonl import read_jsonl, write_jsonl

RECORDS = [{"a": "ä", "b": [1]}, {"a": "\u2028"}]


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz"])
def test_round_trip(tmp_path: Path, name: str) -> None:
    write_jsonl(tmp_path / name, RECORDS)
    assert [record.fields for record in read_jsonl(tmp_path / name)] == RECORDS
    assert ((tmp_path / name).read_bytes()[:2] == b"\x1f\x8b") == name.endswith(".gz")


def test_gzip_is_seen_whatever_the_name(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(gzip.compress(b'\n{"a": 1}\n\n'))
    [record] = read_jsonl(tmp_path / "x.jsonl")
    assert record.place.endswith("x.jsonl, line 2")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"a": 1}\n{"a"\n', "line 2 is not JSON: Expecting"),
        (b"[1, 2]\n", r"line 1 is no JSON object: \[1, 2\]"),
        (b"\xff\xfe\n", "line 1 is UTF-16, not UTF-8"),
        (gzip.compress(b'{"a": 1}\n' * 9, mtime=0)[:-9], "cannot read"),
    ],
)
def test_bad_files(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "x.jsonl").write_bytes(data)
    with pytest.raises(LocretError, match=message):
        list(read_jsonl(tmp_path / "x.jsonl"))


def test_missing_files_and_folders(tmp_path: Path) -> None:
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(LocretError, match="cannot read"):
            list(read_jsonl(path))
