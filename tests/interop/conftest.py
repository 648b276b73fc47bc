"""What needs kvpress itself is skipped where it is not installed: `make kvpress` installs it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from locret.interop.kvpress import load_kvpress

TOKENS, KEPT = 60, 15


@pytest.fixture
def kvpress() -> Any:
    """The module, of the version that was tested; another one fails."""
    pytest.importorskip("kvpress", exc_type=ImportError)
    return load_kvpress()


def prompt(tokens: int = TOKENS) -> Tensor:
    return torch.randint(1, 97, (1, tokens), generator=torch.Generator().manual_seed(3))
