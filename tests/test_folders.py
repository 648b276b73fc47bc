from __future__ import annotations

import errno
import fcntl
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from locret.errors import LocretError
from locret.folders import alone_in, make_folder

HOLDING = """
import sys, time
from pathlib import Path
from locret.folders import alone_in
with alone_in(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(300)
"""


def test_one_process_at_a_time_and_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    out = tmp_path / "a" / "out"
    other = subprocess.Popen([sys.executable, "-c", HOLDING, str(out)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(LocretError, match=f"another process is writing into {out}: wait"), alone_in(out):
            pass
    finally:
        other.send_signal(signal.SIGKILL)
        other.communicate()
    with alone_in(out):
        (out / "file").write_text("")
    assert [path.name for path in out.iterdir()] == ["file"]


def test_a_folder_into_which_nothing_came_is_taken_back(tmp_path: Path) -> None:
    with alone_in(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
    assert list(tmp_path.iterdir()) == []


def test_without_locks_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", unknown)
    with alone_in(tmp_path), alone_in(tmp_path):
        pass


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LocretError, match="file is a file: give a folder"):
        make_folder(tmp_path / "file")
    with pytest.raises(LocretError, match=r"cannot make the folder .*below: Not a directory"):
        make_folder(tmp_path / "file" / "below")
