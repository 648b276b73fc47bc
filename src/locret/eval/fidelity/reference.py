"""What full attention predicts: worked out once a document, and held in files until other documents come."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from locret.cache.budget import Budget
from locret.engine import Engine
from locret.eval.fidelity.continuations import Continuation
from locret.eval.fidelity.distance import measured_logits
from locret.files import write_whole
from locret.policies import get_policy


@dataclass
class References:
    """Full attention's logits for the documents of one block of cells: those that only policy and budget tell apart.

    They are held as they are, in fp32 files of [measured, vocab], as a dozen MB a document would soon fill the memory.
    Hidden states before the model's head would be smaller, but a family may change the logits behind it, and so would
    have to be asked again.

    Attributes:
        model, tokenizer: a causal language model of transformers and its tokenizer.
        seconds: spent on full attention so far.
    """

    model: Any
    tokenizer: Any
    seconds: float = field(default=0.0, init=False)
    _block: object = field(default=None, init=False)

    def logits(self, block: object, number: int, ids: tuple[int, ...], forced: Continuation, budget: Budget) -> Tensor:
        """The rows [measured, vocab], fp32 on the CPU.

        Args:
            block: whatever tells blocks of cells apart; rows of another block are forgotten.
            number: of the document in its block.
            ids: the document.
            forced: what is forced on it.
            budget: how it is read, but nothing is evicted and positions are true.

        Raises:
            LocretError: the document does not fit the model's window, or its rows not on the disk.
        """
        if block != self._block:
            for old in self._folder.glob("*.npy"):
                old.unlink()
            self._block = block
        path = self._folder / f"{number}.npy"
        if path.exists():
            return torch.from_numpy(np.load(path))
        began = time.perf_counter()
        budget = replace(budget, positions="true", decode_budget=None)
        engine = Engine(self.model, self.tokenizer, policy=get_policy("full"), budget=budget)
        rows = measured_logits(engine.score_pieces(engine.prefill(ids), forced.ids), forced)
        write_whole(path, partial(_save, rows))
        self.seconds += time.perf_counter() - began
        return rows

    @cached_property
    def _held(self) -> TemporaryDirectory[str]:
        return TemporaryDirectory(prefix="locret-fidelity-")  # removed with this object

    @property
    def _folder(self) -> Path:
        return Path(self._held.name)


def _save(rows: Tensor, path: Path) -> None:
    with path.open("wb") as file:  # given a name, numpy would add an ending to it
        np.save(file, rows.numpy())
