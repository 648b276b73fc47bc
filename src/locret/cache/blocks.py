"""InfLLM (arXiv 2402.04617): all units stay in blocks off the device, and a pass sees those that answer its queries.

A pass attends to the first units, the blocks that it recalls, the local window, and itself. It differs from the paper:

- The paper chooses blocks for every 512 queries; here every pass chooses once, so `Budget(chunk=512)` is its setting.
- The paper's local window moves with each query; here it is the newest units before the pass, up to one block more (the
  units that do not fill a block yet), and the pass' own units on top.
- The paper gives every unit outside the window one and the same distance, and so reads beyond the model's window. Here
  keys are cached rotated for their true positions, and blocks are chosen and attended to with these: the prompt must
  fit the model's window.
- Representatives are chosen by the paper's formula: the mean over the following `local` queries i of q_i . k. (Its code
  sums softmax weights.) A sum over heads stands for a KV head, where the code repeats keys for every query head.

As in the paper's code, all heads of a layer recall the same blocks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from locret.cache.budget import Budget
from locret.cache.columns import Columns
from locret.cache.host_blocks import Blocks, asking, joined
from locret.cache.infllm_sizes import Sizes
from locret.cache.offloaded import Piece
from locret.cache.rotation import Move
from locret.cache.storage import register_storage
from locret.models.queries import Queries


@dataclass
class Resident:
    """Blocks that are on the device already; the least recently used goes first. Only a cache: nobody can tell."""

    most: int
    held: OrderedDict[Piece, tuple[Tensor, Tensor]] = field(default_factory=OrderedDict)

    @property
    def nbytes(self) -> int:
        """Bytes on the device."""
        return sum(part.nbytes for pair in self.held.values() for part in pair)

    def fetch(self, piece: Piece, device: torch.device) -> tuple[Tensor, Tensor]:
        """Keys and values of a block on `device`."""
        if piece.device == device:
            return piece.fetch(device)
        pair = self.held.pop(piece) if piece in self.held else piece.fetch(device)
        self.held[piece] = pair
        while len(self.held) > self.most:
            self.held.popitem(last=False)
        return pair


@register_storage("infllm")
@dataclass(frozen=True)
class InfLLM:
    """All units of one layer: the near ones on the device, the others in blocks on the host.

    Attributes:
        sizes: parameters.
        near: keys, values and worth (fp32, width 1) of the first units, of those behind the last block, and of the
            local window; None while empty. Worth is the sum of q . k over the following queries, up to `local` of them.
        blocks: the units between.
        answers: sum of the representative keys of each block, fp32 [batch, kv_heads, blocks, head_dim]; None without
            blocks. The sum of q . r over queries and representatives is the product of two sums.
        worths: worth of the units in blocks, [batch, kv_heads, size] each.
        resident: blocks that are on the device as well.
        gained: what the pass under way added to the worth of `near`; `recall` puts it there, once.
    """

    sizes: Sizes = field(default_factory=Sizes)
    near: Columns | None = None
    blocks: Blocks = field(default_factory=Blocks)
    answers: Tensor | None = None
    worths: tuple[Tensor, ...] = ()
    resident: Resident = field(default_factory=lambda: Resident(Sizes().resident))
    gained: list[Tensor] = field(default_factory=list)
    keeps_everything: ClassVar[bool] = True
    moves_late: ClassVar[bool] = False

    @classmethod
    def for_budget(cls, budget: Budget) -> Callable[[], InfLLM]:
        """A maker of storages that show a pass at most `budget.size` units of the past (see `Sizes.within`).

        Raises:
            LocretError: that is too few.
        """
        return _maker(Sizes.within(budget.size))

    @property
    def units(self) -> int:
        """All units per KV head."""
        return 0 if self.near is None else self.near.units + len(self.blocks) * self.sizes.block

    @property
    def nbytes(self) -> int:
        """Bytes on the device."""
        tensors = [*self.worths, *(() if self.near is None else self.near.tensors)]
        tensors += [] if self.answers is None else [self.answers]
        return sum(tensor.nbytes for tensor in tensors) + self.blocks.nbytes + self.resident.nbytes

    @property
    def offloaded_bytes(self) -> int:
        """Bytes of blocks on the host."""
        return self.blocks.offloaded_bytes

    @property
    def visible(self) -> int:
        """First units, recalled blocks, local window, and what does not fill a block."""
        beyond = self._blocks_of(self.units) - self.sizes.top
        return self.units - max(beyond, 0) * self.sizes.block

    def read(self) -> tuple[Tensor, Tensor]:
        """All keys and values, in order, on the device."""
        keys, values, _ = self._all().tensors
        return keys, values

    def recall(self, new: int, queries: Queries | None) -> tuple[Tensor, Tensor]:
        """The recalled blocks, oldest first, then the near units.

        Raises:
            LocretError: there are blocks to choose from, and the model's hooks are off.
        """
        keys, values, _ = self._near.tensors
        if queries is not None:
            self.gained[:] = [self._gain(keys, asking(queries, new, keys))]
        if not len(self.blocks):
            return keys, values
        chosen = self.choose(new, queries).tolist()
        needed = sorted({i for blocks in chosen for i in blocks})
        fetched = {i: self.resident.fetch(self.blocks.pieces[i], keys.device) for i in needed}
        far = joined([[(fetched[i][0][row], fetched[i][1][row]) for i in blocks] for row, blocks in enumerate(chosen)])
        return torch.cat([far[0], keys], dim=-2), torch.cat([far[1], values], dim=-2)

    def choose(self, new: int, queries: Queries | None) -> Tensor:
        """Which blocks a pass recalls: indices [batch, recalled], ascending; the same in all heads."""
        if len(self.blocks) <= self.sizes.top:
            return torch.arange(len(self.blocks), device="cpu").expand(self._near.tensors[0].shape[0], -1)
        assert self.answers is not None
        asked = asking(queries, new, self.answers).sum(dim=(2, 3))  # [batch, kv_heads, head_dim]
        relevance = torch.einsum("bhd,bhnd->bn", asked, self.answers)
        return relevance.topk(self.sizes.top, dim=-1).indices.sort(dim=-1).values

    def append(self, keys: Tensor, values: Tensor) -> InfLLM:
        """With new units at the end; those that the local window has passed go into blocks."""
        new = Columns((keys, values, torch.zeros(*keys.shape[:-1], 1, device=keys.device)))
        if self.near is None:
            return replace(self, near=new.between(0, new.units), gained=[])
        settled = self._settled()
        return replace(settled, near=settled._near.append(new), gained=[])

    def gather(self, indices: Tensor) -> InfLLM:
        """Only the units at `indices` [batch, kv_heads, kept], put into blocks anew."""
        return self._of(self._all().gather(indices))

    def evict(self, kept: Tensor, scores: Tensor) -> InfLLM:
        """Only the units at `kept`; a cache refuses policies that would ask for it."""
        return self.gather(kept)

    def map_keys(self, change: Move) -> InfLLM:
        """With the keys moved."""
        keys, values, worth = self._all().tensors
        return self._of(Columns((change(keys), values, worth)))

    def select_batch(self, indices: Tensor) -> InfLLM:
        """Only the batch rows at `indices`."""
        if self.near is None:
            return self
        near, rows = self._worthy().select(indices), indices.to(self._near.tensors[0].device)
        worths = tuple(worth.index_select(0, rows) for worth in self.worths)
        answers = None if self.answers is None else self.answers.index_select(0, rows)
        blocks = self.blocks.rows(indices)
        return replace(self, near=near, blocks=blocks, answers=answers, worths=worths, gained=[])

    @classmethod
    def stack(cls, rows: Sequence[InfLLM]) -> InfLLM:
        """One batch; rows with fewer units are padded at the front, and a cache refuses them once blocks are chosen."""
        return rows[0]._of(Columns.stack([row._all() for row in rows]))

    @property
    def _near(self) -> Columns:
        assert self.near is not None, "nothing is stored yet"
        return self.near

    def _blocks_of(self, units: int) -> int:
        """How many blocks so many units fill."""
        return max(units - self.sizes.init - self.sizes.local, 0) // self.sizes.block

    def _settled(self) -> InfLLM:
        """With everything in blocks that the local window has passed."""
        near, blocks, size = self._worthy(), self.blocks, self.sizes.block
        worths, answers = list(self.worths), [] if self.answers is None else [self.answers]
        count = self._blocks_of(self.units) - len(blocks)
        if count <= 0:
            return replace(self, near=near, gained=[])
        behind = self.sizes.init + count * size
        for start in range(self.sizes.init, behind, size):
            keys, values, worth = near.between(start, start + size).tensors
            blocks = blocks.append(keys, values)
            worths.append(worth[..., 0])
            best = worths[-1].sort(dim=-1, descending=True, stable=True).indices[..., : self.sizes.representatives]
            answers.append(Columns((keys,)).gather(best).tensors[0].float().sum(dim=-2, keepdim=True))
        rest = near.between(0, self.sizes.init).append(near.between(behind, near.units))
        together = torch.cat(answers, dim=-2)
        return replace(self, near=rest, blocks=blocks, answers=together, worths=tuple(worths), gained=[])

    def _worthy(self) -> Columns:
        """The near units, with what the latest pass gave them."""
        keys, values, worth = self._near.tensors
        return Columns((keys, values, worth + self.gained[0][..., None])) if self.gained else self._near

    def _all(self) -> Columns:
        near, init = self._worthy(), self.sizes.init
        parts = [near.between(0, init)]
        for piece, worth in zip(self.blocks.pieces, self.worths, strict=True):
            parts.append(Columns((*piece.fetch(worth.device), worth[..., None])))
        parts.append(near.between(init, near.units))
        return Columns(
            tuple(torch.cat(column, dim=-2) for column in zip(*(part.tensors for part in parts), strict=True))
        )

    def _of(self, units: Columns) -> InfLLM:
        return replace(self, near=units, blocks=Blocks(), answers=None, worths=(), gained=[])._settled()

    def _gain(self, keys: Tensor, queries: Tensor) -> Tensor:
        """Sum of q . k over those of a pass' queries that follow a unit within `local`: [batch, kv_heads, near units].

        Keys are [batch, kv_heads, near units, head_dim], queries [batch, kv_heads, group, new, head_dim].

        Sums over runs of queries are differences of running sums, so no matrix of scores is made.
        """
        units, new = keys.shape[-2], queries.shape[-2]
        running = pad(queries.sum(dim=2).cumsum(dim=-2), (0, 0, 1, 0))  # [batch, kv_heads, new + 1, head_dim]
        after = torch.arange(units, device=keys.device) + 1 - (units - new)  # each unit's next query, if in this pass
        begin, end = after.clamp(0, new), (after + self.sizes.local).clamp(0, new)
        return ((running[..., end, :] - running[..., begin, :]) * keys.float()).sum(dim=-1)


def make_infllm(
    *, init: int = 128, local: int = 4096, block: int = 128, top: int = 16, representatives: int = 4, resident: int = 32
) -> Callable[[], InfLLM]:
    """A maker of empty storages with other parameters (see `Sizes`), for `BudgetCache(storage=...)`.

    Raises:
        LocretError: a parameter is too small.
    """
    return _maker(Sizes(init, local, block, top, representatives, resident))


def _maker(sizes: Sizes) -> Callable[[], InfLLM]:
    return lambda: InfLLM(sizes, resident=Resident(sizes.resident))
