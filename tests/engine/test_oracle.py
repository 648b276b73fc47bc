"""The engine against recorded outputs of the original implementation, with its heads as `convert_heads` reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from locret.models.convert import convert_heads
from tests.oracle import check_against, load_oracle


@pytest.mark.parametrize("attention", ["split", "masked", "eager"])
def test_reproduces_every_forward_of_the_original(shared_data: Path, tmp_path: Path, attention: str) -> None:
    oracle = load_oracle(shared_data)
    oracle.model.config.save_pretrained(tmp_path)
    check_against(oracle, convert_heads(oracle.path, tmp_path), attention)
