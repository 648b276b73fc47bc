from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from locret.errors import LocretError
from locret.models.heads import RetainingHeads
from locret.train.checkpoint import OPTIMIZER, STATE, UNFINISHED, load_checkpoint, save_checkpoint
from locret.train.config import TrainConfig
from locret.train.loop import make_optimizer
from tests.conftest import tiny_llama


class State:
    """Heads and an optimiser that can be told apart by the step they are at."""

    def __init__(self, width: int = 4) -> None:
        self.heads = RetainingHeads.from_config(tiny_llama().config, width=width)
        self.optimizer = make_optimizer(self.heads, TrainConfig())

    def at(self, step: int) -> State:
        torch.manual_seed(step)
        for parameter in self.heads.parameters():
            parameter.grad = torch.randn_like(parameter)
        self.optimizer.step()
        for parameter in self.heads.parameters():
            parameter.data.fill_(step)
        return self

    def save(self, folder: Path, step: int) -> Path:
        return save_checkpoint(folder, self.heads, self.optimizer, step)

    def load(self, folder: Path) -> int | None:
        return load_checkpoint(folder, self.heads, self.optimizer)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_everything_comes_back(tmp_path: Path) -> None:
    saved, loaded = State().at(5).at(6), State()
    path = saved.save(tmp_path, 6)
    assert loaded.load(tmp_path) == 6
    for mine, theirs in zip(loaded.heads.parameters(), saved.heads.parameters(), strict=True):
        assert torch.equal(mine, theirs)
        before, after = saved.optimizer.state[theirs], loaded.optimizer.state[mine]
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)
    assert RetainingHeads.from_pretrained(path).config == saved.heads.config
    assert not [name for name in names(path) if not name.endswith((".json", ".safetensors"))]


def test_the_two_newest_stay(tmp_path: Path) -> None:
    state = State().at(1)
    for step in (1, 2, 100_000_000, 4):
        state.save(tmp_path, step)
    assert names(tmp_path) == ["step-00000004", "step-100000000"]


def test_no_checkpoint_is_no_error(tmp_path: Path) -> None:
    assert State().load(tmp_path) is None
    assert State().load(tmp_path / "absent") is None


@pytest.mark.parametrize("name", [STATE, OPTIMIZER, "heads.safetensors", "heads.json"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(name: str, damage: str, tmp_path: Path) -> None:
    State().at(1).save(tmp_path, 1)
    file = State().at(2).save(tmp_path, 2) / name
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(content[:-5])
    else:
        file.write_bytes(content[:-5] + bytes(255 - x for x in content[-5:]))
    state = State()
    assert state.load(tmp_path) == 1
    assert next(state.heads.parameters()).unique().tolist() == [1]


def test_only_damaged_checkpoints_are_an_error(tmp_path: Path) -> None:
    (State().at(1).save(tmp_path, 1) / OPTIMIZER).write_bytes(b"")
    with pytest.raises(LocretError, match=r"no checkpoint in .* usable \(step-00000001: optimizer"):
        State().load(tmp_path)
    with pytest.raises(LocretError, match="no checkpoint"):
        State(width=5).load(tmp_path)


class Killed(BaseException):
    """Stands for a kill: nothing catches it, nothing is tidied up."""


class _Countdown:
    """An audit hook, which cannot be taken off: raises at the n-th file operation once armed."""

    EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "os.chmod")

    def __init__(self) -> None:
        self.left: float = float("inf")
        sys.addaudithook(self)

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if event in self.EVENTS:
            self.left -= 1
            if self.left < 0:
                raise Killed

    @contextmanager
    def armed(self, operations: int) -> Iterator[None]:
        self.left = operations
        try:
            yield
        finally:
            self.left = float("inf")


@pytest.fixture(scope="module")
def countdown() -> _Countdown:
    return _Countdown()


def test_a_kill_at_any_file_operation_leaves_a_usable_checkpoint(countdown: _Countdown, tmp_path: Path) -> None:
    states = {step: State().at(step) for step in (1, 2, 3, 4)}
    for operations in range(1000):
        folder = tmp_path / str(operations)
        for step in (1, 2):
            states[step].save(folder, step)
        try:
            with countdown.armed(operations):
                states[3].save(folder, 3)
            break
        except Killed:
            loaded = State()
            step = loaded.load(folder)
            assert step in (2, 3)
            assert next(loaded.heads.parameters()).unique().tolist() == [step]
            states[4].save(folder, 4)  # what is left over does not trip the next one
            assert not list(folder.glob(f"{UNFINISHED}*"))
            assert loaded.load(folder) == 4
    assert 15 < operations < 1000


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: writing fails for real, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 300, 5000])
def test_a_write_that_fails_is_one_line_and_leaves_nothing(size: int, tmp_path: Path) -> None:
    state = State().at(1)
    state.save(tmp_path, 1)
    with largest_file(size), pytest.raises(LocretError, match="checkpoint of step 2 in") as failure:
        state.save(tmp_path, 2)
    assert "\n" not in str(failure.value)
    assert names(tmp_path) == ["step-00000001"]
    assert state.load(tmp_path) == 1


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LocretError, match="checkpoint of step 1"):
        State().at(1).save(tmp_path / "file", 1)
