from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from locret.errors import LocretError
from locret.eval.lines import LineFile
from locret.eval.predictions import (
    Unwritten,
    cells_with_predictions,
    open_predictions,
    prediction_path,
    read_predictions,
)
from tests.eval.test_results import CELL, ROW, SUBJECT


def test_lines_are_there_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lines.jsonl"
    file = LineFile(path)
    assert not path.parent.exists()
    file.append({"a": (1, 2)})
    file.append({"b": "\u2028 ü"})
    assert file.lines == LineFile(path).lines == [{"a": [1, 2]}, {"b": "\u2028 ü"}]


@pytest.mark.parametrize("half", [b'{"b', b'{"b": 2}', b"\xc3"])
def test_half_a_line_is_dropped_when_the_next_one_comes(tmp_path: Path, half: bytes) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b'{"a": 1}\n' + half)
    file = LineFile(path)
    assert file.lines == [{"a": 1}]
    assert path.read_bytes().endswith(half)  # another process may still be at it
    file.append({"c": 3})
    assert path.read_bytes() == b'{"a": 1}\n{"c": 3}\n'


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "lines.jsonl").write_text('{"a": 1}\n[]x\n{"a": 1}\n')
    with pytest.raises(LocretError, match=r"lines\.jsonl, line 2 is not a JSON object"):
        LineFile(tmp_path / "lines.jsonl")


@pytest.mark.parametrize("line", ['{"answer": "x"}', '{"uid": 5}'])
def test_a_line_that_names_no_question_is_refused(tmp_path: Path, line: str) -> None:
    path = prediction_path(tmp_path, CELL, SUBJECT)
    path.parent.mkdir(parents=True)
    path.write_text(f'{{"uid": "0"}}\n{line}\n')
    for read in (lambda: open_predictions(tmp_path, CELL, SUBJECT), lambda: read_predictions(tmp_path, ROW)):
        with pytest.raises(LocretError, match=r"mix\.jsonl, prediction 2: .*uid.*: remove the file"):
            read()


def test_unwritten_lines_are_as_from_a_file() -> None:
    lines = Unwritten()
    lines.append({"a": (1, 2)})
    assert lines.lines == [{"a": [1, 2]}]


def test_every_cell_has_a_file_of_its_own(tmp_path: Path) -> None:
    cells = [
        CELL,
        *(
            replace(CELL, **change)  # type: ignore[arg-type]
            for change in (
                {"seed": 1}, {"samples": 8}, {"keys": 4}, {"chat": True}, {"max_new_tokens": 3}, {"data": "x 0"},
                {"split": "heldout"}, {"query_first": True}, {"policy": "kvpress:SnapKVPress"}, {"task": "leval/tpo"},
                {"budget": replace(CELL.budget, chunk=16)},
            )
        ),
    ]  # fmt: skip
    paths = [prediction_path(tmp_path, cell, SUBJECT) for cell in cells]
    paths.append(prediction_path(tmp_path, CELL, replace(SUBJECT, weights="1")))
    assert len(set(paths)) == len(paths)
    assert paths[0].name == "mix.jsonl"
    assert paths[0].parent.name.startswith("locret__64__512__seed0__")
    assert paths[9].parent.name.startswith("kvpress-SnapKVPress__")
    assert paths[10].name == "leval-tpo.jsonl"


def test_settings_stand_beside_predictions(tmp_path: Path) -> None:
    open_predictions(tmp_path, CELL, SUBJECT).append({"uid": "0"})
    assert list(cells_with_predictions(tmp_path)) == [(CELL, SUBJECT)]
    assert read_predictions(tmp_path, ROW) == [{"uid": "0"}]
    [settings] = tmp_path.rglob("cell.json")
    assert json.loads(settings.read_text())["budget"] == 64
    settings.write_text("{}")
    with pytest.raises(LocretError, match="does not hold the settings of a cell"):
        list(cells_with_predictions(tmp_path))
