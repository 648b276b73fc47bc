"""State dicts on disk: the names first, then the shapes, and only those tensors that are asked for."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from locret.errors import LocretError, first_line

PICKLES = (".bin", ".pt", ".pth")


class TensorFile(Protocol):
    """A file with named tensors; LocretError from any method says that it is damaged."""

    path: Path

    def names(self) -> list[str]:
        """The names of its tensors."""

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, which need not be read for this."""

    def read(self, name: str) -> Tensor:
        """A tensor, on the CPU, that shares no memory with the file."""


class SafetensorsFile:
    """A .safetensors file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        """The names of its tensors."""
        with self._opened() as file:
            return list(file.keys())

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, from the header."""
        with self._opened() as file:
            return tuple(file.get_slice(name).get_shape())

    def read(self, name: str) -> Tensor:
        """A tensor."""
        with self._opened() as file:
            tensor: Tensor = file.get_tensor(name)
            return tensor

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        try:
            with safe_open(self.path, "pt") as file:
                yield file
        except (OSError, SafetensorError) as error:
            raise LocretError(f"{self.path} is missing, damaged or cut short ({error}): fetch it again") from error


class PickleFile:
    """A state dict written by `torch.save`; nothing but tensors is ever unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        """The names of its tensors."""
        return list(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return tuple(self._get(name).shape)

    def read(self, name: str) -> Tensor:
        """A copy of a tensor, as the file is mapped into memory."""
        return self._get(name).detach().clone()

    def _get(self, name: str) -> Tensor:
        if name not in self._tensors:
            raise LocretError(f"{self.path} has no tensor {name}, which its index says it has: fetch it again")
        return self._tensors[name]

    @cached_property
    def _tensors(self) -> dict[str, Tensor]:
        try:
            # Only the zip format can be mapped; the one before torch 1.6 is read as a whole.
            mapped = zipfile.is_zipfile(self.path)
            loaded = torch.load(self.path, map_location="cpu", weights_only=True, mmap=mapped)
        except Exception as error:  # the unpickler stumbles over damage with errors of any type
            refused = re.search(r"GLOBAL (\S+)", str(error))
            if refused:
                raise LocretError(
                    f"{self.path} holds Python objects ({refused[1]}), which could run any code and are not loaded: "
                    "save a plain state dict of tensors, best as .safetensors"
                ) from error
            raise LocretError(
                f"{self.path} is missing, damaged, or no state dict of torch.save ({first_line(error)}): fetch it again"
            ) from error
        if not isinstance(loaded, Mapping):
            raise LocretError(f"{self.path} holds a {type(loaded).__name__}: a state dict, name -> tensor, is expected")
        return {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}


_OPENERS: dict[str, Callable[[Path], TensorFile]] = {
    ".safetensors": SafetensorsFile,
    **dict.fromkeys(PICKLES, PickleFile),
}


def open_tensors(path: Path) -> TensorFile:
    """The file at `path`, which is not read yet.

    Raises:
        LocretError: its ending is none of those known.
    """
    if path.suffix == ".gguf":
        raise LocretError(f"{path} is a GGUF file, which holds no retaining heads: name the heads' own file")
    if path.suffix not in _OPENERS:
        raise LocretError(f"{path} is no state dict by its name: give a file that ends in {', '.join(_OPENERS)}")
    return _OPENERS[path.suffix](path)


@dataclass(frozen=True)
class StateDict:
    """Tensors of one or several files, by name.

    Attributes:
        source: what the user called it, for messages.
        files: name of a tensor -> the file it is in.
    """

    source: str
    files: Mapping[str, TensorFile]

    @classmethod
    def of_file(cls, source: str, path: Path) -> StateDict:
        """All tensors of one file."""
        file = open_tensors(path)
        return cls(source, dict.fromkeys(file.names(), file))

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of the tensor `name`."""
        return self.files[name].shape(name)

    def read(self, name: str) -> Tensor:
        """The tensor `name`."""
        return self.files[name].read(name)
