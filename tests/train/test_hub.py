from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from locret.errors import LocretError
from locret.train import hub
from locret.train.records import read_records


def offer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Let the hub be a local folder; what is asked of it is collected."""
    asked = []

    def download(name: str, **options: Any) -> str:
        asked.append((name, options))
        return str(folder)

    monkeypatch.setattr(hub, "snapshot_download", download)
    return asked


def test_the_json_files_of_a_data_set_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    for name in ("data/b.jsonl", "a.json", "README.md"):
        (tmp_path / name).write_text(json.dumps({"prompt": name, "answer": "x"}))
    asked = offer(tmp_path, monkeypatch)
    records = read_records(["owner/name"])
    assert [Path(record.place).name for record in records.items] == ["a.json:1", "b.jsonl:1"]
    assert asked[0][0] == "owner/name"
    assert asked[0][1]["repo_type"] == "dataset"


def test_a_data_set_without_json_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train.parquet").touch()
    offer(tmp_path, monkeypatch)
    with pytest.raises(LocretError, match=r"owner/name has no .jsonl.*to_json"):
        read_records(["owner/name"])


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str, **options: Any) -> str:
        raise ConnectionError

    monkeypatch.setattr(hub, "snapshot_download", fail)
    with pytest.raises(LocretError, match=r"'owner/name' is no file here.*\(ConnectionError\)"):
        read_records(["owner/name"])
