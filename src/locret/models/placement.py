"""Where a model computes, also where accelerate has moved its weights out of the way (`device_map`)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from typing import Any

import torch
from accelerate.utils import align_module_device
from torch import Tensor, nn

from locret.errors import LocretError, first_line

DEVICE = re.compile(r"(cpu|cuda|mps|xpu)(:[0-9]{1,4})?")
PLAIN = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def find_device(name: str) -> torch.device:
    """The device that a user names; auto is CUDA where there is one, else the CPU.

    Raises:
        LocretError: it is misspelt, of a kind that models are not run on, or not here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    remedy = "give auto, cpu, cuda, or one of several as cuda:1"
    if not DEVICE.fullmatch(name):
        raise LocretError(f"device is {name!r}: {remedy}")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise LocretError(f"device is {name!r}, but torch sees no CUDA device here: give cpu, or auto")
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch was built without it
        raise LocretError(f"device is {name!r} ({first_line(error)}): {remedy}") from error
    return torch.device(name)


def device_of(module: nn.Module) -> torch.device:
    """The device that a module computes on. Offloaded weights are on no device: accelerate's hook knows it then.

    Raises:
        LocretError: the weights are not loaded, and nothing says where they would be.
    """
    tensors = chain(module.parameters(), module.buffers())
    found = next((tensor.device for tensor in tensors), torch.device("meta"))
    if found.type != "meta":
        return found
    for part in module.modules():
        device = getattr(getattr(part, "_hf_hook", None), "execution_device", None)
        if device is not None:
            return torch.device(device)
    raise LocretError(f"the weights of {type(module).__name__} are not loaded: load the model with from_pretrained")


def devices_of(model: Any) -> set[torch.device]:
    """All devices that a model computes on."""
    return {device_of(module) for module in (model.get_input_embeddings(), *model.get_decoder().layers)}


def input_device(model: Any) -> torch.device:
    """The device that token ids are looked up on; masks and positions are made there, too."""
    return device_of(model.get_input_embeddings())


def compute_dtype(module: nn.Module, config: Any) -> torch.dtype:
    """The precision that a module computes in; one whose weights are packed computes in that of the configuration."""
    weight = next(module.parameters(), None)
    if weight is not None and weight.dtype in PLAIN:
        return weight.dtype
    return config.dtype or torch.get_default_dtype()


def own_precision(device: torch.device) -> AbstractContextManager[Any]:
    """A block without `torch.autocast`, for what knows its own precision."""
    kind = device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def is_plain(weight: Any) -> bool:
    """Whether a weight is here, and its numbers are what they seem.

    A quantiser packs weights into integers, or into a class of its own that may pose as floating point.
    """
    return type(weight) in (Tensor, nn.Parameter) and not weight.is_meta and weight.dtype in PLAIN


def has_values(tensor: Tensor) -> bool:
    """Whether values can be looked at without waiting: on the CPU, but for tensors that only pretend to have any."""
    return tensor.device.type == "cpu" and type(tensor) is Tensor


def weights_of(modules: Iterable[nn.Module]) -> Iterator[Tensor | None]:
    """The weight of each module, fetched for the moment where it is offloaded; None for a module without."""
    for module in modules:
        with align_module_device(module):
            yield getattr(module, "weight", None)
