"""Running checks: one that fails is recorded with its error, and the others go on."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from benchmarks.gpu.setting import Setting
from locret.errors import LocretError

Row = dict[str, Any]
Check = Callable[[Setting], Row]


def run(checks: Mapping[str, Check], setting: Setting, watch: Callable[[str], None] = print) -> Iterator[Row]:
    """Every check in turn, each when it is asked for.

    Args:
        checks: by name. A check gives figures, and `passed` where it can fail; it fails, too, if it raises.
        setting: that all of them get.
        watch: called with a line before and after each.

    Yields:
        A row for each: its name, `passed`, the seconds it took, and its figures or its `error`.
    """
    for name, check in checks.items():
        watch(f"{name} ...")
        began = time.perf_counter()
        row = {"passed": True, **_result(check, setting)}
        free(setting)
        watch(f"{name}: {'passed' if row['passed'] else 'FAILED ' + row.get('error', '')}")
        yield {"check": name, **row, "seconds": round(time.perf_counter() - began, 2)}


def chosen(checks: Mapping[str, Check], wanted: Sequence[str] | None) -> dict[str, Check]:
    """Those whose names begin with one of `wanted`; all if None.

    Raises:
        LocretError: one of `wanted` begins no name.
    """
    for want in wanted or ():
        if not any(name.startswith(want) for name in checks):
            raise LocretError(f"no check begins with {want!r}: there are {', '.join(checks)}")
    return {name: check for name, check in checks.items() if wanted is None or name.startswith(tuple(wanted))}


def free(setting: Setting) -> None:
    """Give back what the last check held, so that the next one starts from nothing."""
    gc.collect()
    if setting.cuda:
        torch.cuda.empty_cache()


def message(error: BaseException) -> str:
    """The kind of an error and its first line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


def _result(check: Check, setting: Setting) -> Row:
    try:
        return check(setting)
    except Exception as error:  # whatever it is: it is the result of this check
        return {"passed": False, "error": message(error)}
