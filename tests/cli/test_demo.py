from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import locret
from locret.cli.demo import FACTS, POLICIES
from tests.cli.conftest import Run, error_line, only_json
from tests.eval.models import byte_llama, byte_tokenizer


@pytest.fixture(autouse=True)
def tiny_builtin(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny random model in the place of the built-in one."""
    model = byte_llama()
    heads = locret.RetainingHeads.from_config(model.config, width=16)

    def load(*_: Any) -> tuple[Any, Any, locret.RetainingHeads]:
        return model, byte_tokenizer(), heads

    monkeypatch.setattr("locret.cli.loading.load_model", load)


def test_rows_strip_and_picture(run: Run, tmp_path: Path) -> None:
    picture = tmp_path / "kept.png"
    shown = run("demo", "--length", 1600, "--budget", "1/4", "--out", picture)
    assert shown.exit_code == 0, shown.stderr
    assert all(name in shown.stdout for name in POLICIES)
    marks = next(line for line in shown.stdout.splitlines() if "△" in line and "fact" not in line)
    assert 1 <= marks.count("△") <= FACTS
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert str(picture) in shown.stderr.replace("\n", "")


def test_json_has_the_rows_of_eval(run: Run, tmp_path: Path) -> None:
    result = only_json(run("demo", "--length", 1600, "--budget", 100, "--out", tmp_path / "kept.png", "--json"))
    assert [row["policy"] for row in result["results"]] == list(POLICIES)
    assert {row["samples"] for row in result["results"]} == {FACTS}
    assert [row["budget"] for row in result["results"]] == [1600, 100, 100, 100]


def test_a_bad_budget_is_refused(run: Run) -> None:
    assert "budget is 'half'" in error_line(run("demo", "--budget", "half"))
