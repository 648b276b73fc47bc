from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from locret.errors import LocretError
from locret.files import append, check_writable, write_text_whole, write_together, write_whole

HANGING = """
import sys, time
from pathlib import Path
from locret.files import write_whole
def write(path):
    path.write_text("half")
    print("begun", flush=True)
    time.sleep(300)
write_whole(Path(sys.argv[1]), write)
"""


def full(path: Path) -> None:
    path.write_bytes(b"half")
    raise OSError(28, "No space left on device")


def replaced(path: Path) -> None:
    """As some libraries write: to another file, which they rename."""
    path.with_suffix(".part").write_text("new")
    path.with_suffix(".part").rename(path)


def test_a_link_stays_one_and_its_end_is_written(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "hanging").symlink_to("deep/new")
    for name in ("link", "hanging"):
        write_text_whole(tmp_path / name, "new")
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / name).read_text() == "new"
    assert (tmp_path / "real").read_text() == (tmp_path / "deep" / "new").read_text() == "new"


def test_nothing_but_files_is_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(os.devnull)
    (tmp_path / "folder").mkdir()
    before = {name: (tmp_path / name).lstat().st_ino for name in ("pipe", "link", "folder")}
    for name, message in (("pipe", "a device, a pipe"), ("link", "a device, a pipe"), ("folder", "is a folder")):
        for write in (check_writable, lambda path: write_text_whole(path, "x"), lambda path: append(path, "x")):
            with pytest.raises(LocretError, match=f"{name} is .*{message.removeprefix('is ')}"):
                write(tmp_path / name)
    assert {name: (tmp_path / name).lstat().st_ino for name in before} == before
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_loop_of_links_and_a_file_as_folder_are_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "loop", tmp_path / "file" / "below"):
        for write in (check_writable, lambda path: write_text_whole(path, "x"), lambda path: append(path, "x")):
            with pytest.raises(LocretError, match=r"could not write|is a file"):
                write(path)


def test_rights_are_those_of_the_file_that_was_there(tmp_path: Path) -> None:
    (tmp_path / "private").write_text("old")
    (tmp_path / "private").chmod(0o600)
    before = os.umask(0o027)
    try:
        for name in ("private", "new"):
            write_text_whole(tmp_path / name, "new")
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("private", "new")] == [0o600, 0o640]


def test_long_names_have_room(tmp_path: Path) -> None:
    write_text_whole(tmp_path / ("n" * 255), "text")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["text"]


def test_a_full_disk_leaves_everything_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    for files in ({tmp_path / "a": full}, {tmp_path / "a": replaced, tmp_path / "new" / "b": full}):
        with pytest.raises(LocretError, match=r"could not write .*: No space left on device: free some space"):
            write_together(files)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_files_that_belong_together_come_together_however_they_are_written(tmp_path: Path) -> None:
    write_together({tmp_path / "a": replaced, tmp_path / "b": replaced})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "new", "b": "new"}


def test_a_text_is_appended_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "lines"
    append(path, "one\n")
    append(path, "two\nhalf")
    append(path, "three \udce9\n", end=8)
    assert path.read_bytes() == b"one\ntwo\nthree \\udce9\n"

    def fails(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(LocretError, match=r"could not write .*lines: No space left on device: free some space"):
        append(path, "four\n")
    assert path.read_bytes() == b"one\ntwo\nthree \\udce9\n"


def test_what_a_killed_process_has_left_goes_with_the_next_file_and_a_living_one_keeps_its_own(tmp_path: Path) -> None:
    commands = [
        subprocess.Popen([sys.executable, "-c", HANGING, str(tmp_path / name)], stdout=subprocess.PIPE, text=True)
        for name in ("killed", "living")
    ]
    try:
        for command in commands:
            assert command.stdout is not None
            assert command.stdout.readline() == "begun\n"
        commands[0].send_signal(signal.SIGKILL)
        commands[0].wait()
        assert len(list(tmp_path.iterdir())) == 2
        write_text_whole(tmp_path / "next", "text")
        assert len(list(tmp_path.iterdir())) == 2  # the next and the living one's
    finally:
        for command in commands:
            command.kill()
            command.communicate()
    write_whole(tmp_path / "next", lambda path: path.write_text("again"))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["again"]


def test_a_writer_that_puts_another_file_in_place_of_its_own_loses_neither_file_nor_rights(tmp_path: Path) -> None:
    def replaced(path: Path) -> None:
        made = tmp_path / "made"
        made.write_text("new")
        made.chmod(0o600)
        made.replace(path)

    (tmp_path / "a").write_text("old")
    (tmp_path / "a").chmod(0o640)
    write_together({tmp_path / "a": replaced, tmp_path / "b": replaced})
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text() == "new"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) != 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
