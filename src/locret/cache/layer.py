"""One layer of the budgeted cache: storage, positions and scores of its units, and the cut after each chunk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers.cache_utils import CacheLayerMixin

from locret.cache.asked import Asked
from locret.cache.keeping import fills_gaps, keep_first, with_room
from locret.cache.plan import Stage
from locret.cache.reading import Arriving, Reading
from locret.cache.rotation import Move
from locret.cache.slots import Packing, Slots
from locret.cache.storage import Storage
from locret.errors import LocretError
from locret.policies.base import Units
from locret.policies.selection import select


class BudgetLayer(CacheLayerMixin):
    """The units of one layer.

    Attributes:
        storage: keys and values.
        positions: [batch, kv_heads, units] int32, prompt positions (left padding counted) in the storage's order:
            ascending, unless gaps are filled.
        scores: [batch, kv_heads, units] fp32.
        slots: rotary positions of the stored keys, with compact positions.
        new, stage: tokens of the latest pass, and what it is to the prompt.
        seen: tokens that went through this layer, evicted ones included.
        cut_at: tokens seen at the latest cut; what came before it cannot be taken back.
    """

    is_sliding = False
    is_croppable = True
    supports_early_init = False

    def __init__(self, index: int, reading: Reading, empty: Callable[[], Storage]) -> None:
        super().__init__()
        self.index = index
        self.reading = reading
        self.empty = empty
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.storage = self.empty()
        self.positions: Tensor | None = None
        self.scores: Tensor | None = None
        self.slots: Slots | None = None
        self.arriving = Arriving()
        self.asked = Asked.of(self.reading.policy)
        self.new, self.stage = 0, Stage.KEEP
        self.seen = self.cut_at = 0
        self.is_initialized = False

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Make empty state tensors in the shapes of the first units."""
        shape = (*key_states.shape[:2], 0)
        self.positions = torch.zeros(shape, dtype=torch.int32, device=key_states.device)
        self.scores = torch.zeros(shape, dtype=torch.float32, device=key_states.device)
        if self.reading.budget.positions == "compact":
            self.slots = Slots(torch.zeros_like(self.positions))
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Add new units, score them, cut back to the budget where a chunk ends.

        Returns:
            Keys and values before the cut: this call's queries see all of the chunk.
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.positions is not None and self.scores is not None
        new = key_states.shape[-2]
        if self.reading.pads is not None and self.storage.visible != self.storage.units:
            raise LocretError(
                "a padded batch has one mask for what is stored, and this storage shows each prompt other units: "
                "read the prompts one by one"
            )
        step = self.reading.step(self.seen, self.storage.units, key_states)
        self.stage = step.stage
        if step.stage is Stage.KEEP or not self.storage.moves_late:
            self.pack()
        if self.slots is not None:
            self.slots = self.slots.append(self._first_slot(new), new)
        if new > 1 or not self.storage.units:
            self.storage = with_room(self.storage, step.room)
        self.storage = self.storage.append(key_states, value_states)
        keys, values = self.storage.recall(new, self.arriving.queries)
        self.positions = torch.cat([self.positions, step.positions], dim=-1)
        self.seen += new
        self.new = new
        keys = self._in_place(keys)
        if not self.reading.policy.scores_after_pass:
            # What is recalled on top comes first, and is no longer the policy's.
            self.score_and_cut(keys[..., -self.storage.units :, :])
        return keys, values

    def score_and_cut(self, keys: Tensor, surprise: Tensor | None = None) -> None:
        """Score the units of the pass, and cut back to the budget if a chunk ends with it.

        Args:
            keys: [batch, kv_heads, units, head_dim], all that are stored.
            surprise: [batch, new], for a policy that scores after the pass.
        """
        assert self.positions is not None and self.scores is not None
        self.scores = self._score(keys, self.scores, surprise)
        budget = self.reading.budget
        if self.stage is not Stage.KEEP:
            self.cut(budget.size, self.reading.protected(self.stage))
        elif budget.decode_size is not None and self._due():
            self.cut(budget.decode_size, min(self.reading.protected(), budget.decode_size), Packing.GAPPED)

    def _due(self) -> bool:
        """Whether units are evicted after this pass of an answer: by tokens, so that rows of a batch go as alone."""
        written, every = self.seen - (self.reading.prompt_length or 0), self.reading.budget.decode_every
        return written // every > (written - self.new) // every

    def cut(self, size: int, protect: int, packing: Packing = Packing.DUE) -> None:
        """Keep the best `size` units of every KV head, the newest `protect` among them in any case.

        Within a pass a layer that fills gaps waits for others, which then are cut with it (`Cuts`).

        Args:
            size, protect: numbers of units.
            packing: what becomes of the gaps, with compact positions.

        Raises:
            LocretError: a score is NaN.
        """
        if not self.reading.policy.evicts or self.scores is None or self.storage.units <= size:
            return
        if fills_gaps(self.storage, self.reading):
            self.reading.cuts.add(self, size, protect)
        else:
            self.cut_in_order(size, protect, packing)

    def cut_in_order(self, size: int, protect: int, packing: Packing) -> None:
        """See `cut`; this layer for itself, the kept units in their order."""
        assert self.scores is not None and self.positions is not None
        self.reading.cuts.look(self.scores[None], [self])
        kept = select(self.ranks(size), size, protect)
        self.storage = self.storage.evict(kept, self._pinned(self.scores))
        self.positions, self.scores = self.positions.gather(-1, kept), self.scores.gather(-1, kept)
        self.cut_at = self.seen
        if self.slots is not None:
            self.slots = self.slots.gather(kept, packing)

    def ranks(self, size: int) -> Tensor:
        """What a cut to `size` units goes by: [batch, kv_heads, units]."""
        assert self.scores is not None
        return self._pinned(self._without_padding(self.reading.policy.rank(self.scores, self._own_positions(), size)))

    def read(self) -> tuple[Tensor, Tensor]:
        """All keys, rotated for where their units are now, and values: [batch, kv_heads, units, head_dim] each."""
        keys, values = self.storage.read()
        return self._in_place(keys), values

    def pack(self) -> None:
        """With compact positions: move the units together for good, if that is due."""
        if self.slots is not None and self.slots.packing is Packing.DUE:
            rotation = self.reading.rotations[self.index]
            self.storage = self.storage.map_keys(Move(rotation, self.slots.moves(self.stored_pads())))
            self.slots = self.slots.packed(self.stored_pads())

    def _in_place(self, keys: Tensor) -> Tensor:
        """Stored keys as attention is to see them."""
        if self.slots is None or self.slots.packing is not Packing.DUE:
            return keys
        return self.reading.rotations[self.index].rotate(keys, self.slots.moves(self.stored_pads()))

    def _first_slot(self, new: int) -> Tensor:
        """The slot of the first of the `new` units that a pass brings, [batch]."""
        coming = self.reading.next_slot
        # Without the hook on the decoder nobody has said where the pass ends.
        return self.storage.units - self.stored_pads()[:, 0, 0] if coming is None else coming - new

    def stored_pads(self) -> Tensor:
        """Units of padding that are stored, [batch, 1, 1]; padding is scored alike in all heads."""
        assert self.positions is not None
        pads = self.reading.pads
        if pads is None:
            return self.positions.new_zeros(self.positions.shape[0], 1, 1)
        return (self.positions[:, :1] < pads.to(self.positions)[:, None, None]).sum(dim=-1, keepdim=True)

    def _score(self, keys: Tensor, scores: Tensor, surprise: Tensor | None) -> Tensor:
        """Scores of all units; padding gets -inf, so it is the first to go, alike in every head."""
        arriving, self.arriving = self.arriving, Arriving()
        self.asked, asked = self.asked.after(self, arriving.queries)
        own, queries = self._own_positions(), arriving.queries
        units = Units(self.index, arriving.projections, keys, own, scores, queries, surprise, asked, arriving.hidden)
        return self._without_padding(self.reading.policy.score(units))

    def _own_positions(self) -> Tensor:
        """Positions counted from each row's own first token; negative for its padding."""
        assert self.positions is not None
        pads = self.reading.pads
        return self.positions if pads is None else self.positions - pads.to(self.positions)[:, None, None]

    def _without_padding(self, scores: Tensor) -> Tensor:
        pads = self.reading.pads
        return scores if pads is None else scores.masked_fill(self._own_positions() < 0, -torch.inf)

    def _pinned(self, scores: Tensor) -> Tensor:
        """The scores with +inf for the units that `Budget.pin_first` names."""
        first = self.reading.budget.pin_first
        if not first:
            return scores
        own = self._own_positions()
        return scores.masked_fill((own >= 0) & (own < first), torch.inf)

    def fork(self, reading: Reading) -> BudgetLayer:
        """A layer that goes on from here for itself; tensors are shared, and a storage that writes in place knows."""
        layer = BudgetLayer(self.index, reading, self.empty)
        layer.storage, layer.positions, layer.scores = self.storage, self.positions, self.scores
        layer.slots, layer.asked = self.slots, self.asked
        layer.seen, layer.cut_at, layer.is_initialized = self.seen, self.cut_at, self.is_initialized
        return layer

    def sort(self) -> None:
        """Bring the units into the order of the prompt."""
        if self.positions is None or self.scores is None or not fills_gaps(self.storage, self.reading):
            return
        order = self.positions.argsort(dim=-1)
        self.storage = self.storage.gather(order)
        self.positions, self.scores = self.positions.gather(-1, order), self.scores.gather(-1, order)

    def stack(self, rows: Sequence[BudgetLayer]) -> None:
        """Become one batch of layers that have read one prompt each; the shorter are padded at the front."""
        for row in rows:
            row.sort()
        self.seen = max(row.seen for row in rows)
        self.cut_at = self.seen
        self.storage = self.empty().stack([row.storage for row in rows])
        positions, scores = [], []
        for row in rows:
            assert row.positions is not None and row.scores is not None
            missing = (self.storage.units - row.storage.units, 0)
            # Positions of a padded row count its padding; padding itself is before everything.
            positions.append(pad(row.positions + (self.seen - row.seen), missing, value=-1))
            scores.append(pad(row.scores, missing, value=-torch.inf))
        self.positions, self.scores = torch.cat(positions), torch.cat(scores)
        slots = [row.slots for row in rows if row.slots is not None]
        self.slots = Slots.stack(slots) if slots else None
        self.is_initialized = True

    def crop(self, tokens_to_remove: int) -> None:
        """Take back the newest tokens, as assisted generation does; the number is negative, as in transformers.

        Raises:
            LocretError: units were evicted after these tokens came.
        """
        removed = abs(tokens_to_remove)
        if removed == 0 or self.positions is None or self.scores is None:
            return
        if self.seen - removed < self.cut_at:
            raise LocretError(
                f"{removed} tokens cannot be taken back, as units were evicted after them: give the cache the "
                "prompt_length, so that it knows what is decoding, and no decode_budget, or generate without assistance"
            )
        self.storage = keep_first(self.storage, self.storage.units - removed, self.positions)
        self.positions, self.scores = self.positions[..., :-removed], self.scores[..., :-removed]
        self.slots = None if self.slots is None else self.slots.without_newest(removed)
        self.seen -= removed

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Attention sees what the storage recalls, all of it mostly, and the new tokens."""
        return self.storage.visible + query_length, 0

    def get_seq_length(self) -> int:
        """Tokens seen, so that positions go on from there."""
        return self.seen

    def get_max_length(self) -> int:
        """No bound on the tokens that can be read."""
        return -1

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep only these batch rows, which may repeat."""
        if self.positions is None or self.scores is None:
            return
        self.storage, self.asked = self.storage.select_batch(indices), self.asked.select(indices)
        self.positions = self.positions[indices.to(self.positions.device)]
        self.scores = self.scores[indices.to(self.scores.device)]
        self.slots = None if self.slots is None else self.slots.select(indices)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Follow a beam search."""
        self.batch_select_indices(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every batch row."""
        if self.positions is not None:
            rows = torch.arange(self.positions.shape[0], device=self.positions.device)
            self.batch_select_indices(rows.repeat_interleave(repeats))
