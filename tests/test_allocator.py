"""What the C library is asked for; in processes of their own, as it cannot be taken back."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from locret.allocator import OF_USER, hold_memory
from locret.cli import app

# Far more than glibc's heap begins with, given back, and asked for again: pages that are kept are not fetched twice.
PROGRAM = """
import ctypes, resource
from locret.allocator import hold_memory
held = hold_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
def faults(size=24 << 20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    at = libc.malloc(size)
    ctypes.memset(at, 1, size)
    libc.free(at)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(held, faults())
"""


def ran(**settings: str) -> tuple[bool, int]:
    environment = {name: value for name, value in os.environ.items() if name not in OF_USER}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment | settings, check=True, capture_output=True, text=True
    )
    held, faults = done.stdout.split()
    return held == "True", int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt's thresholds are glibc's")
def test_memory_given_back_is_kept_unless_the_user_says_otherwise() -> None:
    held, faults = ran()
    assert held
    assert faults < 100
    held, faults = ran(MALLOC_TRIM_THRESHOLD_="131072", MALLOC_MMAP_THRESHOLD_="131072")
    assert not held
    assert faults > 1000


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not hold_memory()


def test_the_command_line_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    for name in ("prepare_streams", "end_on_signals"):  # which would change this process for good
        monkeypatch.setattr(app, name, lambda: None)
    monkeypatch.setattr(app, "hold_memory", lambda: order.append("held"))
    monkeypatch.setattr(app, "app", lambda prog_name: order.append(prog_name))
    app.main()
    assert order == ["held", "locret"]
