"""Units off the device: nothing changes but where they are, and files go when they should."""

from __future__ import annotations

import errno
import gc
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import locret
from locret.cache import Offloaded, make_disk
from locret.cache.disk import PREFIX, Files, Scratch, scratch
from locret.cache.offloaded import HostMemory
from locret.folders import LOCK
from tests.conftest import make_policy, tiny_llama


def units(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    keys, values = torch.randn(2, 1, 2, count, 8, generator=torch.Generator().manual_seed(seed))
    return keys, values


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name != LOCK]


@pytest.mark.parametrize("positions", ["true", "compact"])
@pytest.mark.parametrize("storage", ["offloaded", "disk"])
@pytest.mark.parametrize("policy", ["full", "locret", "sirllm"])
def test_where_units_are_changes_nothing(policy: str, storage: str, positions: str) -> None:
    model = tiny_llama()
    budget = locret.Budget(size=40, chunk=32, stabilizers=8, local=10, positions=positions)
    ids = torch.randint(1, 97, (1, 203), generator=torch.Generator().manual_seed(1))
    results = []
    for name in ("dynamic", storage):  # `dense` has its units in another order
        engine = locret.Engine(model, policy=make_policy(policy, model), budget=budget, storage=name)
        session = engine.prefill(ids)
        first, again = engine.generate(session, 9), engine.generate(session, 9)  # from a fork each
        assert first.token_ids == again.token_ids
        results.append((session, first))
    (dense, expected), (other, found) = results
    assert torch.equal(dense.logits, other.logits)
    assert expected.token_ids == found.token_ids
    assert dense.kv_bytes == other.kv_bytes
    if storage == "disk":  # all but the latest pass
        assert 0.7 * other.kv_bytes < other.cache.offloaded_bytes < other.kv_bytes
    else:  # the host is the device here
        assert other.cache.offloaded_bytes == 0


@pytest.mark.parametrize("place", [HostMemory(), Files()])
def test_one_unit_at_a_time_makes_few_pieces(place: Any) -> None:
    storage = Offloaded(place).append(*units(100, 0))
    for step in range(70):
        storage = storage.append(*units(1, 1 + step))
    assert len(storage.pieces) <= 8
    keys, values = zip(units(100, 0), *(units(1, 1 + step) for step in range(70)), strict=True)
    assert torch.equal(storage.read()[0], torch.cat(keys, -2))
    assert torch.equal(storage.read()[1], torch.cat(values, -2))


def test_bytes_are_those_of_the_device_and_those_elsewhere() -> None:
    storage = Offloaded().append(*units(10, 0)).append(*units(3, 1))
    whole, fresh = 13 * 2 * 2 * 8 * 4, 3 * 2 * 2 * 8 * 4
    assert (storage.nbytes, storage.offloaded_bytes) == (whole, 0)
    elsewhere = replace(storage, device=torch.device("meta"))  # as if the model ran on another device than the host
    assert (elsewhere.nbytes, elsewhere.offloaded_bytes) == (fresh, whole - fresh)


def test_files_are_shared_by_forks_and_go_with_the_last(tmp_path: Path) -> None:
    first = make_disk(tmp_path)().append(*units(50, 0)).gather(torch.arange(40).expand(1, 2, 40))
    fork = first.append(*units(5, 1))
    assert len(files_below(tmp_path)) == 1
    alone = fork.gather(torch.arange(20).expand(1, 2, 20))
    assert len(files_below(tmp_path)) == 2
    del first
    gc.collect()
    assert torch.equal(fork.read()[0][..., :40, :], units(50, 0)[0][..., :40, :])  # its file is still there
    assert torch.equal(alone.read()[0], units(50, 0)[0][..., :20, :])
    del fork, alone
    gc.collect()
    assert files_below(tmp_path) == []


class FullDisk:
    """A file that takes some bytes and then says that the disk is full."""

    def __init__(self, handle: int, mode: str) -> None:
        self.file = os.fdopen(handle, mode)

    def __enter__(self) -> FullDisk:
        return self

    def __exit__(self, *args: object) -> None:
        self.file.close()

    def write(self, data: memoryview) -> None:
        self.file.write(data[:64])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_ends_clearly_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_llama()
    budget = locret.Budget(size=40, chunk=32, stabilizers=8, local=10)
    engine = locret.Engine(model, policy=make_policy("locret", model), budget=budget, storage=make_disk(tmp_path))
    ids = torch.randint(1, 97, (1, 203), generator=torch.Generator().manual_seed(1))
    with monkeypatch.context() as patch:
        patch.setattr("locret.cache.disk.open_file", FullDisk)
        with pytest.raises(locret.LocretError, match=r"No space left on device: free some space"):
            engine.prefill(ids)
    gc.collect()
    assert files_below(tmp_path) == []
    assert engine.prefill(ids).tokens_seen == 203  # and afterwards all is well
    gc.collect()
    assert files_below(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(locret.LocretError, match=r"cannot keep units in .*/file/below"):
        make_disk(tmp_path / "file" / "below")().append(*units(5, 0)).append(*units(1, 1))


@pytest.mark.parametrize("harm", ["removed", "cut short"])
def test_a_lost_file_is_an_error_in_words(tmp_path: Path, harm: str) -> None:
    storage = make_disk(tmp_path)().append(*units(50, 0)).append(*units(1, 1))
    (path,) = files_below(tmp_path)
    if harm == "removed":
        path.unlink()
    else:
        os.truncate(path, 100)
    with pytest.raises(locret.LocretError, match=r"units in .* are lost"):
        storage.read()


CHILD = """
import sys, torch
from pathlib import Path
import locret.cache
from locret.errors import LocretError
storage = locret.cache.make_disk(Path(sys.argv[1]))()
if sys.argv[2] == "limited":
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
if sys.argv[2] == "writing":
    import os

    class Halting:  # a file that takes some bytes, says so, and waits
        def __init__(self, handle, mode):
            self.file = os.fdopen(handle, mode, buffering=0)

        def __enter__(self):
            return self

        def __exit__(self, *args):
            self.file.close()

        def write(self, data):
            self.file.write(data[:100])
            print("ready", flush=True)
            sys.stdin.read()

    locret.cache.disk.open_file = Halting
try:
    storage = storage.append(*torch.randn(2, 1, 2, 50, 8)).append(*torch.randn(2, 1, 2, 1, 8))
except LocretError as error:
    print(error)
    sys.exit(1)
print("ready", flush=True)
if sys.argv[2] == "waits":
    sys.stdin.read()
"""


def child(folder: Path, how: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no flock, SIGKILL or file size limit")
def test_what_a_killed_process_leaves_is_removed_by_the_next_and_nothing_else(tmp_path: Path) -> None:
    killed, ended, limited = child(tmp_path, "waits"), child(tmp_path, "ends"), child(tmp_path, "limited")
    assert killed.stdout is not None
    assert killed.stdout.readline() == "ready\n"
    assert ended.communicate()[0] == "ready\n"
    message, _ = limited.communicate()
    assert "cannot put 6400 bytes" in message  # a real refusal of the operating system
    assert limited.returncode == 1

    (left,) = tmp_path.iterdir()  # of the one that lives still; the others have cleaned up
    assert len(files_below(left)) == 1
    (tmp_path / f"{PREFIX}half-made").mkdir()
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path.parent)
    (tmp_path / "other").mkdir()
    own = Scratch(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {left.name, own.path.name, f"{PREFIX}link", "other"}

    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert len(files_below(left)) == 1
    again = Scratch(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {own.path.name, again.path.name, f"{PREFIX}link", "other"}
    del own, again
    gc.collect()
    assert {path.name for path in tmp_path.iterdir()} == {f"{PREFIX}link", "other"}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no flock, SIGKILL or file size limit")
def test_a_process_killed_while_it_writes_leaves_nothing_to_trip_over(tmp_path: Path) -> None:
    killed = child(tmp_path, "writing")
    assert killed.stdout is not None
    assert killed.stdout.readline() == "ready\n"
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    (left,) = tmp_path.iterdir()
    (part,) = files_below(left)
    assert part.stat().st_size == 100  # of 6400: a torn file

    model = tiny_llama()
    budget = locret.Budget(size=40, chunk=32, stabilizers=8, local=10)
    ids = torch.randint(1, 97, (1, 203), generator=torch.Generator().manual_seed(1))
    sessions = [
        locret.Engine(model, policy=make_policy("locret", model), budget=budget, storage=storage).prefill(ids)
        for storage in ("dynamic", make_disk(tmp_path))  # `dense` has its units in another order
    ]
    assert torch.equal(sessions[0].logits, sessions[1].logits)
    assert not left.exists()
    del sessions
    gc.collect()
    assert files_below(tmp_path) == []


def test_one_folder_serves_a_process(tmp_path: Path) -> None:
    assert scratch(tmp_path) is scratch(tmp_path)
    storages = [make_disk(tmp_path)().append(*units(5, i)).append(*units(1, i)) for i in range(3)]
    assert len([path for path in tmp_path.iterdir() if path.name.startswith(PREFIX)]) == 1
    assert len(files_below(tmp_path)) == len(storages)
