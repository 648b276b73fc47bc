"""Storage in files: pieces of units in a folder of this process alone, which goes when the process does.

A piece is one file and is never changed, so forks share it; it is removed when the last of them lets go of it. A
process that is killed leaves its folder behind, unlocked; the next one that needs a folder removes it.
"""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

import torch
from torch import Tensor

from locret.cache.offloaded import Offloaded
from locret.cache.storage import register_storage
from locret.errors import LocretError
from locret.folders import own_folder, remove_abandoned

PREFIX = "locret-kv-"
open_file = os.fdopen


class Scratch:
    """A folder below `parent` for this process. Its lock file is locked for as long as the process lives.

    Raises:
        LocretError: no folder can be made there.
    """

    def __init__(self, parent: Path) -> None:
        try:
            parent.mkdir(parents=True, exist_ok=True)
            remove_abandoned(parent, PREFIX)
            self.path, self._lock = own_folder(parent, PREFIX)
        except OSError as error:
            raise LocretError(
                f"cannot keep units in {parent}: {error.strerror}: name another folder (TMPDIR)"
            ) from error
        weakref.finalize(self, _clear, self.path, self._lock, os.getpid())

    def write(self, parts: tuple[Tensor, ...]) -> Path:
        """Put tensors into a new file, one after the other.

        Raises:
            LocretError: the disk is full or fails; no part of the file stays.
        """
        path = None
        try:
            handle, name = tempfile.mkstemp(dir=self.path)
            path = Path(name)
            with open_file(handle, "wb") as file:
                for part in parts:
                    file.write(part.detach().to("cpu").contiguous().view(-1).view(torch.uint8).numpy().data)
        except OSError as error:
            if path is not None:
                path.unlink(missing_ok=True)
            size = sum(part.nbytes for part in parts)
            raise LocretError(
                f"cannot put {size} bytes of units into {self.path}: {error.strerror}: free some space, "
                "name another folder (TMPDIR), or lower the budget"
            ) from error
        return path


@functools.cache
def scratch(parent: Path) -> Scratch:
    """The folder of this process below `parent`; made when the first file is."""
    return Scratch(parent)


def _clear(folder: Path, lock: IO[bytes], owner: int) -> None:
    if os.getpid() == owner:  # not a fork of the process
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()


def _remove(path: Path, owner: int) -> None:
    if os.getpid() == owner:
        with suppress(OSError):
            path.unlink(missing_ok=True)


@dataclass(frozen=True, eq=False)
class FilePiece:
    """Units in a file: all keys, then all values."""

    path: Path
    dtype: torch.dtype
    keys_shape: torch.Size
    values_shape: torch.Size

    def __post_init__(self) -> None:
        weakref.finalize(self, _remove, self.path, os.getpid())

    def __deepcopy__(self, memo: dict[int, Any]) -> FilePiece:
        """Itself, as it is never written again."""
        return self

    def __reduce__(self) -> NoReturn:
        """The file goes when this process does.

        Raises:
            LocretError: always.
        """
        raise LocretError(f"the units in {self.path} belong to this process and cannot be pickled: use storage 'dense'")

    @property
    def units(self) -> int:
        """Units per KV head."""
        return self.keys_shape[-2]

    @property
    def nbytes(self) -> int:
        """Bytes of the file."""
        return (self.keys_shape.numel() + self.values_shape.numel()) * self.dtype.itemsize

    @property
    def device(self) -> None:
        """No device's memory."""
        return

    def fetch(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Map the file into memory, and copy it to `device` if that is not the host.

        Raises:
            LocretError: the file is gone or damaged.
        """
        sizes = [self.keys_shape.numel(), self.values_shape.numel()]
        try:
            if self.path.stat().st_size != self.nbytes:  # a mapping would grow the file, or end the process
                raise OSError(0, f"{self.path.stat().st_size} bytes are there instead of {self.nbytes}")
            whole = torch.from_file(str(self.path), shared=False, size=sum(sizes), dtype=self.dtype)
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise LocretError(
                f"the units in {self.path} are lost ({reason}): read the prompt again, and let nothing else clean "
                "up that folder"
            ) from error
        keys, values = whole.split(sizes)
        return keys.view(self.keys_shape).to(device), values.view(self.values_shape).to(device)


@dataclass(frozen=True)
class Files:
    """Files in a folder of this process below `parent`; None for the system's temporary folder."""

    parent: Path | None = None

    def put(self, keys: Tensor, values: Tensor, device: torch.device) -> FilePiece:
        """Write units to a new file.

        Raises:
            LocretError: it could not be written.
        """
        assert keys.dtype == values.dtype, "keys and values of one model have one dtype"
        parent = Path(tempfile.gettempdir()) if self.parent is None else self.parent
        path = scratch(parent.absolute()).write((keys, values))
        return FilePiece(path, keys.dtype, keys.shape, values.shape)


def make_disk(parent: Path | None = None) -> Callable[[], Offloaded]:
    """A maker of empty storages whose files are below `parent`, for `BudgetCache(storage=...)`."""
    return functools.partial(Offloaded, Files(parent))


register_storage("disk")(make_disk())
