"""The roofline: how long reading would take if the machine did nothing but the arithmetic and moves that it needs."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from locret.bench.measure import synchronise
from locret.cache.budget import Budget
from locret.plan.estimate import FULL
from locret.plan.kv import Pass, passes_of
from locret.plan.sizes import Sizes

TRIES = 5
MATRIX = {"cpu": 2048, "cuda": 8192}  # rows and columns of the product that is timed
BUFFER = {"cpu": 256 << 20, "cuda": 2 << 30}  # bytes that are copied, more than any cache holds


@dataclass(frozen=True, slots=True)
class Machine:
    """What this machine does at best, measured in this process.

    Attributes:
        flops: floating point operations a second, in large matrix products of the model's precision.
        bandwidth: bytes a second, read and written together, in a copy.
    """

    flops: float
    bandwidth: float


@dataclass(frozen=True, slots=True)
class Roofline:
    """The least that reading a prompt needs.

    Attributes:
        flops: of the linear maps and of attention; a multiplication and an addition are two.
        nbytes: of the weights once a pass, of keys and values read and written, and of hidden states between maps.
        seconds: the larger of arithmetic and moves, pass by pass.
    """

    flops: int
    nbytes: int
    seconds: float


def roofline(
    sizes: Sizes, machine: Machine, length: int, budget: Budget, *, policy: str, element: int, heads: int = 0
) -> Roofline:
    """The least that reading `length` tokens needs.

    Args:
        sizes: of the model.
        machine: what is possible.
        length: tokens of the prompt.
        budget: how it is read.
        policy: whether anything is evicted: "full" keeps everything.
        element: bytes of a number.
        heads: weights of retaining heads that a token goes through (`RetainingHeads.active`); 0 for a policy without.
    """
    flops = nbytes = 0
    seconds = 0.0
    for at in passes_of(length, budget, policy != FULL):
        work, moved = _flops(sizes, at, heads), _bytes(sizes, at, heads) * element
        flops, nbytes = flops + work, nbytes + moved
        seconds += max(work / machine.flops, moved / machine.bandwidth)
    output = 2 * sizes.vocabulary * sizes.hidden  # of the last position only
    return Roofline(flops + output, nbytes, seconds + output / machine.flops)


def decode_seconds(sizes: Sizes, machine: Machine, element: int, kv_bytes: int) -> float:
    """The least that one token of an answer needs: every weight that it goes through and every unit are read."""
    weights = sizes.weights.active + sizes.vocabulary * sizes.hidden
    return max((weights * element + kv_bytes) / machine.bandwidth, 2 * weights / machine.flops)


def measure_machine(device: torch.device, dtype: torch.dtype) -> Machine:
    """Time a large matrix product and a large copy; the best of a few tries counts."""
    side = MATRIX[device.type]
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product = min(_timed(device, lambda: left @ right) for _ in range(TRIES))
    source = torch.ones(BUFFER[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = min(_timed(device, lambda: target.copy_(source)) for _ in range(TRIES))
    return Machine(2 * side**3 / product, 2 * source.nbytes / copy)


def _flops(sizes: Sizes, at: Pass, heads: int) -> int:
    """Linear maps, q . k and the weighted values; of the new tokens a query sees half on average."""
    seen = at.new * at.stored + at.new * (at.new + 1) // 2
    window = at.new * min(at.seen + at.new, sizes.window)
    pairs = sizes.budget_layers * seen + sizes.window_layers * window
    return 2 * at.new * (sizes.weights.active + heads) + 4 * sizes.q_width * pairs


def _bytes(sizes: Sizes, at: Pass, heads: int) -> int:
    """Numbers moved: weights, keys and values of stored units read and of new ones written, hidden states."""
    units = 2 * sizes.kv_width * (sizes.budget_layers * (at.stored + at.new) + sizes.window_layers * sizes.window)
    states = 2 * at.new * sizes.hidden * sizes.shapes.layers
    return sizes.weights.linear + heads + units + states


def _timed(device: torch.device, work: object) -> float:
    synchronise(device)
    began = time.perf_counter()
    work()  # type: ignore[operator]
    synchronise(device)
    return time.perf_counter() - began
