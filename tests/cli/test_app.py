from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from locret.cli.app import COMMANDS
from tests.cli.conftest import Run


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_json_and_debug(run: Run, command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert all(flag in result.stdout for flag in ("--json", "--debug"))


def test_unknown_commands_are_bad_usage(run: Run) -> None:
    assert run("read").exit_code == 2


def test_the_process_exits_with_one_line_and_debug_shows_the_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "locret.cli.app", "generate", "--json", "--prompt-file", str(tmp_path / "none")]
    plain = subprocess.run(command, capture_output=True, text=True)
    assert (plain.returncode, plain.stdout) == (1, "")
    assert plain.stderr.count("\n") == 1
    debug = subprocess.run([*command, "--debug"], capture_output=True, text=True)
    assert debug.returncode == 1
    assert "Traceback" in debug.stderr


def test_unexpected_errors_are_one_line_too(run: Run, monkeypatch: pytest.MonkeyPatch, document: Path) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr("locret.cli.loading.load_model", broken)
    result = run("generate", "--prompt-file", document)
    assert result.exit_code == 1
    assert result.stderr == "locret: unexpected RuntimeError: first line second line (--debug shows where)\n"


def test_help_does_not_load_torch() -> None:
    code = "import sys, locret.cli.app; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
