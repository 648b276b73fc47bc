"""`BudgetCache`: a transformers Cache that never holds more than its budget."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from transformers.cache_utils import Cache

from locret.cache.budget import Budget
from locret.cache.hooks import attach
from locret.cache.layer import BudgetLayer, Reading
from locret.cache.plan import chunk_plan
from locret.cache.rotation import Rotation
from locret.cache.storage import get_storage
from locret.errors import LocretError
from locret.models.families import Projections, shapes_of, text_config
from locret.policies.base import Policy


class BudgetCache(Cache):
    """An ordinary `Cache` for an ordinary model: `model.generate(**inputs, past_key_values=BudgetCache(...))`.

    Every forward pass of several tokens is a chunk of the prompt; after it each KV head keeps its `budget.size` best
    units. A pass of more than `budget.chunk` tokens is taken as a whole prompt: it is read in chunks inside the one
    call, its local tail last, and hidden states (logits) come back for the last piece only. With
    `prefill_chunk_size=budget.chunk` the cache cannot know where the prompt ends; give `prompt_length` to have the last
    chunk and the local tail treated as `Engine` does.

    Args:
        model: the model that the cache is for. Hooks are put on it, once; they do nothing for other caches.
        policy: what to keep (`locret.get_policy`).
        budget: how much to keep.
        prompt_length: tokens of the prompt, where known.
        storage: how units are held, by registered name.

    Raises:
        LocretError: the model's family is not supported, or the policy cannot work with the model.
    """

    is_budgeted = True  # what the hooks on the model look for

    def __init__(
        self,
        model: nn.Module,
        *,
        policy: Policy,
        budget: Budget,
        prompt_length: int | None = None,
        storage: str = "dense",
    ) -> None:
        empty = get_storage(storage)
        attach(model)
        policy.check(model)
        self.reading = Reading(policy, budget, Rotation.of(model), prompt_length)
        self.window: int = text_config(model.config).max_position_embeddings
        layers = [BudgetLayer(i, self.reading, empty) for i in range(shapes_of(model.config).layers)]
        super().__init__(layers=layers)

    @property
    def budget(self) -> Budget:
        """The budget in force."""
        return self.reading.budget

    @property
    def tokens_seen(self) -> int:
        """Tokens read so far, evicted ones included."""
        return int(self.layers[0].seen)

    @property
    def stored(self) -> int:
        """Units held per KV head; the same in every layer."""
        return int(self.layers[0].storage.units)

    @property
    def kv_bytes(self) -> int:
        """Bytes of keys and values that are held now."""
        return sum(layer.storage.nbytes for layer in self.layers)

    def kept_positions(self, layer: int) -> Tensor:
        """Prompt positions of the kept units: LongTensor [batch, kv_heads, kept], ascending.

        Raises:
            LocretError: nothing has been read, or there is no such layer.
        """
        if not 0 <= layer < len(self.layers):
            raise LocretError(f"layer {layer} does not exist: the model has layers 0 to {len(self.layers) - 1}")
        positions = self.layers[layer].positions
        if positions is None:
            raise LocretError("the cache is empty: read a prompt first")
        return positions.long()

    def fork(self) -> BudgetCache:
        """A second cache that goes on from here; neither changes the other. Tensors are shared until they differ."""
        twin = BudgetCache.__new__(BudgetCache)
        twin.reading = replace(self.reading)
        twin.window = self.window
        Cache.__init__(twin, layers=[layer.fork(twin.reading) for layer in self.layers])
        return twin

    def begin_turn(self, length: int) -> None:
        """Say that the next `length` tokens are a prompt, so that its last chunk and local tail are known."""
        self.reading.prompt_length = self.tokens_seen + length

    def plan(self, length: int) -> list[int]:
        """In which pieces the next `length` tokens are to be read."""
        seen, reading = self.tokens_seen, self.reading
        if length > 1 and reading.prompt_length is not None and seen >= reading.prompt_length:
            reading.prompt_length = None  # that prompt is over: this is another turn
        if length > reading.budget.chunk and reading.prompt_length is None:
            self.begin_turn(length)
        if length == 1:
            return [1]
        return chunk_plan(seen, seen + length, reading.prompt_length, reading.budget)

    def check_window(self, length: int) -> None:
        """Refuse tokens that the model has no positions for.

        Raises:
            LocretError: the positions would go past the model's window.
        """
        budget = self.budget
        if budget.positions == "true":
            if self.tokens_seen + length > self.window:
                raise LocretError(
                    f"{self.tokens_seen + length} tokens are more than the model's window of {self.window}: "
                    'shorten the prompt, or use positions="compact", which reads any length'
                )
            return
        widest = self.stored + min(length, budget.chunk)
        if widest > self.window:
            raise LocretError(
                f"{self.stored} stored units + a chunk of {min(length, budget.chunk)} are more than the model's "
                f"window of {self.window}: lower the budget or the chunk"
            )

    def make_room(self) -> None:
        """Before a turn goes on: drop what earlier tails and answers left above one chunk over the budget."""
        if self.stored > self.budget.size + self.budget.chunk:
            for layer in self.layers:
                layer.cut(self.reading.protected())

    def receive_projections(self, layer: int, projections: Projections) -> None:
        """Called by the taps: the q, k, v of the tokens that `update` is about to bring."""
        self.layers[layer].projections = projections

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """Where the new queries stand among the stored units (not among the seen tokens)."""
        return int(self.layers[layer_idx].storage.units)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep only these batch rows, which may repeat."""
        if self.reading.pads is not None:
            self.reading.pads = self.reading.pads[indices.to(self.reading.pads.device)]
        super().batch_select_indices(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every batch row."""
        if self.reading.pads is not None:
            self.reading.pads = self.reading.pads.repeat_interleave(repeats)
        super().batch_repeat_interleave(repeats)

    def reorder_cache(self, beam_idx: Any) -> None:
        """Follow a beam search."""
        self.batch_select_indices(beam_idx)

    def reset(self) -> None:
        """Forget the prompt; budget and policy stay."""
        self.reading.prompt_length = self.reading.pads = None
        super().reset()
