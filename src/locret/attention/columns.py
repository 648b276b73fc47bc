"""Which keys each tile of queries attends to under MInference's patterns (arXiv 2407.02490).

Patterns are applied by tiles of 64 queries, as in the published kernels: a chosen diagonal gives all queries of a tile
the keys that any of them has on it, and the A-shape's window is that of the tile's first query. Tiles begin at
multiples of 64 of the whole prompt, so that chunked reading has the tiles of one long pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from locret.attention.patterns import A_SHAPE, BLOCK_SPARSE, Pattern

TILE = 64  # queries of a tile, and keys of a block
LAST = 64  # queries that the estimate asks
SINKS, NEAR = 30, 100  # first keys and nearest diagonals that are always among the best
LEAST_VERTICAL, LEAST_SLASH = 30, 50
BLOCKS = 100  # blocks of keys that a tile sees under block-sparse


@dataclass(frozen=True)
class Heads:
    """Query heads of one layer that share a KV head and a pattern.

    Attributes:
        query: [batch, heads, new, head_dim].
        key: [batch, stored + new, head_dim].
        scaling: factor on q . k.
    """

    query: Tensor
    key: Tensor
    scaling: float

    @property
    def stored(self) -> int:
        """Keys before the first query's own."""
        return self.key.shape[-2] - self.query.shape[-2]

    def logits(self, begin: int, end: int, keys: Tensor | None = None) -> Tensor:
        """Attention logits of the queries at positions begin..end to all keys: [batch, heads, end - begin, keys], fp32.

        Args:
            begin, end: positions.
            keys: other keys than the heads' own, [batch, keys, head_dim].
        """
        query = self.query[..., begin - self.stored : end - self.stored, :].float()
        keys = self.key if keys is None else keys
        return torch.einsum("bhqd,bkd->bhqk", query, keys.float()) * self.scaling


def tiles(stored: int, new: int) -> list[tuple[int, int]]:
    """Positions (begin, end) of the tiles of the queries stored..stored+new."""
    edges = [stored, *range((stored // TILE + 1) * TILE, stored + new, TILE), stored + new]
    return list(pairwise(edges))


def covers(pattern: Pattern, keys: int) -> bool:
    """Whether a pattern is sure to hide none of so many keys."""
    if pattern.name == A_SHAPE:
        return pattern.vertical + pattern.slash >= keys
    return keys <= BLOCKS * TILE if pattern.name == BLOCK_SPARSE else max(pattern.vertical, pattern.slash) >= keys


def visible_keys(heads: Heads, pattern: Pattern) -> Iterator[tuple[int, int, Tensor]]:
    """For every tile: its begin and end, and which keys before it its queries see.

    Of the tile's own keys its queries see all that are not later than themselves, under every pattern.

    Yields:
        Begin, end, and a mask [batch, heads, begin].
    """
    if pattern.name == A_SHAPE:
        return _a_shape(heads, pattern)
    return _block_sparse(heads) if pattern.name == BLOCK_SPARSE else _vertical_slash(heads, pattern)


def _a_shape(heads: Heads, pattern: Pattern) -> Iterator[tuple[int, int, Tensor]]:
    shape, at = heads.query.shape[:2], torch.arange(heads.key.shape[-2], device=heads.key.device)
    for begin, end in tiles(heads.stored, heads.query.shape[-2]):
        mask = (at[:begin] < pattern.vertical) | (at[:begin] > begin - pattern.slash)
        yield begin, end, mask.expand(*shape, begin)


def _vertical_slash(heads: Heads, pattern: Pattern) -> Iterator[tuple[int, int, Tensor]]:
    columns, diagonals = estimate(heads, pattern)
    counted = torch.nn.functional.pad(diagonals.cumsum(dim=-1, dtype=torch.int32), (1, 0))  # chosen ones nearer than i
    for begin, end in tiles(heads.stored, heads.query.shape[-2]):
        # Key j is on a chosen diagonal of the tile if one of begin-j .. end-1-j is chosen.
        until = counted[..., end - begin + 1 : end + 1].flip(-1)  # [batch, heads, begin]: those up to end-1-j
        before = counted[..., 1 : begin + 1].flip(-1)  # those below begin-j
        yield begin, end, (until > before) | columns[..., :begin]


def _block_sparse(heads: Heads) -> Iterator[tuple[int, int, Tensor]]:
    pooled = torch.stack([part.float().mean(dim=-2) for part in heads.key.split(TILE, dim=-2)], dim=-2)
    for begin, end in tiles(heads.stored, heads.query.shape[-2]):
        blocks = -(-end // TILE)
        likeness = heads.logits(begin, end, pooled[:, :blocks]).mean(dim=-2)  # [batch, heads, blocks]
        likeness[..., -1] = torch.inf  # a tile's own block
        chosen = likeness.topk(min(BLOCKS, blocks), dim=-1).indices
        mask = torch.zeros_like(likeness, dtype=torch.bool).scatter(-1, chosen, True)
        yield begin, end, mask.repeat_interleave(TILE, dim=-1)[..., :begin]


def estimate(heads: Heads, pattern: Pattern) -> tuple[Tensor, Tensor]:
    """The best columns and diagonals, by the softmax attention of the pass' last 64 queries over all keys.

    Returns:
        Two masks [batch, heads, stored + new]: over keys, and over distances from query to key.
    """
    total = heads.key.shape[-2]
    last = min(LAST, heads.query.shape[-2])
    logits = heads.logits(total - last, total)
    later = torch.ones(last, total, dtype=torch.bool, device=logits.device).triu(total - last + 1)
    weights = logits.masked_fill_(later, -torch.inf).softmax(dim=-1)  # [batch, heads, last, total]
    columns, diagonals = weights.sum(dim=-2), torch.zeros_like(weights[..., 0, :])
    for row in range(last):
        position = total - last + row
        diagonals[..., : position + 1] += weights[..., row, : position + 1].flip(-1)
    vertical, slash = max(pattern.vertical, LEAST_VERTICAL), max(pattern.slash, LEAST_SLASH)
    columns[..., :SINKS] = torch.inf
    diagonals[..., : min(NEAR, slash)] = torch.inf
    return _best(columns, vertical), _best(diagonals, slash)


def _best(scores: Tensor, count: int) -> Tensor:
    chosen = scores.topk(min(count, scores.shape[-1]), dim=-1).indices
    return torch.zeros_like(scores, dtype=torch.bool).scatter(-1, chosen, True)
