from __future__ import annotations

from pathlib import Path

from tests.cli.malformed import run_cases


def test_malformed_inputs_end_as_documented(tmp_path: Path) -> None:
    codes, faults = run_cases(seed=1, count=40, folder=tmp_path)
    assert not faults, "\n".join(faults)
    assert codes.total() == 40
