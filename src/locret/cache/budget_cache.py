"""`BudgetCache`: a transformers Cache that never holds more than its budget."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicSlidingWindowLayer

from locret.cache.budget import Budget
from locret.cache.fit import fitting_storage, layer_makers
from locret.cache.hooks import attach
from locret.cache.layer import BudgetLayer
from locret.cache.plan import DECODED_AT_ONCE, chunk_plan
from locret.cache.reading import Arriving, Reading
from locret.cache.rotation import Rotation
from locret.cache.sliding import fork_sliding, sliding_bytes, stack_sliding
from locret.cache.storage import Storage
from locret.cache.window import check_window
from locret.errors import LocretError
from locret.models.families import Projections, budgeted_layers, text_config
from locret.models.placement import own_precision
from locret.models.queries import Queries
from locret.models.rope import LongRope, layer_frequencies
from locret.policies.base import HasWeights, Policy
from locret.values import check_whole


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
        total_length: tokens of prompt and answer, where known: models with LongRoPE (Phi-3) choose their rotary factors
            by it, once for the whole run. Without it the prompt's length decides, or, if that is unknown too, the
            long factors are taken.
        storage: how units are held: a registered name, or a maker of empty storages.

    Layers with a sliding window (Gemma 3) keep transformers' own cache, which is bounded already.

    Raises:
        LocretError: the model's family is not supported, a value is out of range, or model, policy, storage and budget
            do not go together.
    """

    is_budgeted = True  # what the hooks on the model look for

    def __init__(
        self,
        model: nn.Module,
        *,
        policy: Policy,
        budget: Budget,
        prompt_length: int | None = None,
        total_length: int | None = None,
        storage: str | Callable[[], Storage] = "dense",
    ) -> None:
        empty = fitting_storage(storage, policy, budget)
        for name, length in (("prompt_length", prompt_length), ("total_length", total_length)):
            if length is not None:
                check_whole(name, length, 1)
        attach(model)
        policy.check(model)
        if isinstance(policy, HasWeights):
            policy = policy.beside(model)
        rotations = tuple(Rotation(frequencies) for frequencies in layer_frequencies(model))
        self.reading = Reading(policy, budget, rotations, prompt_length)
        self.total_length = total_length
        self.long_rope = LongRope.of(model)
        text = text_config(model.config)
        self.window: int = text.max_position_embeddings
        self.budgeted = budgeted_layers(text)
        self.assisted = False
        makers = layer_makers(empty, model, text.num_hidden_layers)
        super().__init__(
            layers=[
                BudgetLayer(i, self.reading, makers[i])
                if i in self.budgeted
                else DynamicSlidingWindowLayer(sliding_window=text.sliding_window)
                for i in range(text.num_hidden_layers)
            ]
        )

    @property
    def budget(self) -> Budget:
        """The budget in force."""
        return self.reading.budget

    @property
    def tokens_seen(self) -> int:
        """Tokens read so far, evicted ones included."""
        return int(self.layers[self.budgeted[0]].seen)

    @property
    def stored(self) -> int:
        """Units held per KV head; the same in every budgeted layer."""
        return int(self.layers[self.budgeted[0]].storage.units)

    @property
    def sliding(self) -> list[int]:
        """Indices of the layers with a sliding window, which are not budgeted."""
        return [i for i in range(len(self.layers)) if i not in self.budgeted]

    @property
    def kv_bytes(self) -> int:
        """Bytes of keys and values that are held now, on the device or elsewhere."""
        budgeted = sum(self.layers[i].storage.nbytes for i in self.budgeted)
        return budgeted + self.offloaded_bytes + sum(sliding_bytes(self.layers[i]) for i in self.sliding)

    @property
    def offloaded_bytes(self) -> int:
        """Those of `kv_bytes` that are not on the device, but in host memory or in files."""
        return sum(getattr(self.layers[i].storage, "offloaded_bytes", 0) for i in self.budgeted)

    def kept_positions(self, layer: int) -> Tensor:
        """Prompt positions of the kept units: LongTensor [batch, kv_heads, kept], ascending.

        Raises:
            LocretError: nothing has been read, or there is no such layer, or it has a sliding window.
        """
        check_whole("layer", layer, 0)
        if layer >= len(self.layers):
            raise LocretError(f"layer {layer} does not exist: the model has layers 0 to {len(self.layers) - 1}")
        if layer not in self.budgeted:
            raise LocretError(f"layer {layer} has a sliding window and no budget: ask for one of {self.budgeted}")
        positions = self.layers[layer].positions
        if positions is None:
            raise LocretError("the cache is empty: read a prompt first")
        return positions.long().sort(dim=-1).values

    @property
    def frequencies(self) -> Tensor | None:
        """Inverse frequencies [rotary_dim / 2] that LongRoPE is held at for this run; None for other models."""
        return self.reading.frozen

    @torch.compiler.disable
    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> Any:
        """Called by the model's attention: add the units of a pass to one layer, see `BudgetLayer.update`.

        Raises:
            LocretError: the hooks that prepare a pass are not on the model.
        """
        if not self.reading.under_way:
            raise LocretError("the model's hooks are off, so nobody prepared this pass: call locret.attach(model)")
        # Under autocast keys come in another precision than values; attention would cast them, too.
        keys = key_states.to(value_states.dtype)
        with own_precision(keys.device):
            return super().update(keys, value_states, layer_idx, *args, **kwargs)

    def check_unbroken(self) -> None:
        """Refuse to go on behind a pass that was broken off.

        Raises:
            LocretError: an exception or Ctrl-C ended a pass, so the layers have seen different numbers of tokens.
        """
        if self.reading.under_way:
            raise LocretError(
                f"a pass was broken off after {self.tokens_seen} tokens: make a new cache, or call reset()"
            )

    def fork(self) -> BudgetCache:
        """A second cache that goes on from here; neither changes the other. Tensors are shared until they differ.

        Raises:
            LocretError: a pass was broken off.
        """
        self.check_unbroken()
        twin = BudgetCache.__new__(BudgetCache)
        twin.reading = replace(self.reading)
        twin.window, twin.budgeted, twin.assisted = self.window, self.budgeted, self.assisted
        twin.total_length, twin.long_rope = self.total_length, self.long_rope
        layers = (
            layer.fork(twin.reading) if i in self.budgeted else fork_sliding(layer)
            for i, layer in enumerate(self.layers)
        )
        Cache.__init__(twin, layers=list(layers))
        return twin

    def stack(self, rows: Sequence[BudgetCache], pads: Tensor) -> None:
        """Become one left-padded batch of caches that have read one prompt each; `pads` [batch]."""
        for i, layer in enumerate(self.layers):
            own = [row.layers[i] for row in rows]
            layer.stack(own) if i in self.budgeted else stack_sliding(layer, own)
        self.reading.pads = pads
        self.reading.prompt_length = self.tokens_seen
        slots = [row.reading.next_slot for row in rows if row.reading.next_slot is not None]
        self.reading.next_slot = torch.cat(slots) if slots else None

    def begin_turn(self, length: int) -> None:
        """Say that the next `length` tokens are a prompt, so that its last chunk and local tail are known."""
        self.reading.prompt_length = self.tokens_seen + length

    def expect_turn(self, length: int) -> None:
        """`begin_turn` for a prompt that `generate` passes whole, unless more is known.

        Prompts of assisted generation come with candidates for what follows them, and a prompt of known length may be
        passed in several calls.
        """
        known = self.reading.prompt_length
        if length and not self.assisted and (known is None or known <= self.tokens_seen):
            self.begin_turn(length)

    def plan(self, length: int) -> list[int]:
        """In which pieces the next `length` tokens are to be read, as they will be."""
        pieces, self.reading.prompt_length = self.planned(length)
        return pieces

    def planned(self, length: int) -> tuple[list[int], int | None]:
        """What `plan` would say, and where the prompt ends by it (`Reading.prompt_length`); nothing is changed."""
        seen, prompt, budget = self.tokens_seen, self.reading.prompt_length, self.budget
        if self.assisted and seen == 0 and length >= (prompt or 0):
            return self._plan_with_candidates(length), prompt
        over = prompt is not None and seen >= prompt
        if over and length <= min(DECODED_AT_ONCE, budget.chunk):
            return [length], prompt
        if over:
            prompt = None  # that prompt is over: this is another turn
        if length > budget.chunk and prompt is None:
            prompt = seen + length
        if length == 1:
            return [1], prompt
        return chunk_plan(seen, seen + length, prompt, budget), prompt

    def _plan_with_candidates(self, length: int) -> list[int]:
        """The first pass of assisted generation: a prompt, and behind it tokens that it may be continued with.

        Raises:
            LocretError: it cannot be known where the prompt ends.
        """
        prompt, budget = self.reading.prompt_length, self.budget
        if length <= budget.chunk and prompt is None:
            return [length]
        if prompt is None or budget.local == 0:
            raise LocretError(
                "assisted generation passes the prompt and its candidates at once: give BudgetCache the "
                "prompt_length, and a budget whose local is at least 1"
            )
        body = prompt - budget.local
        return [*chunk_plan(0, body, body + budget.local, budget), length - body] if body > 0 else [length]

    def activate_past_recording(self) -> None:
        """Called by transformers before assisted generation, which takes tokens back (`crop`)."""
        self.assisted = True
        super().activate_past_recording()

    def check_window(self, length: int, later: int = 0, answer: int = 0) -> None:
        """Refuse the next `length` tokens, a turn of `later` behind them and an `answer` if the window is too short.

        Raises:
            LocretError: the positions would go past the model's window.
        """
        check_window(self, length, later, answer)

    def make_room(self) -> None:
        """Before a turn goes on: drop what earlier tails and answers left above one chunk over the budget."""
        decoding = self.assisted and self.reading.prompt_length is not None
        if not decoding and self.stored > self.budget.size + self.budget.chunk:
            for i in self.budgeted:
                self.layers[i].cut(self.budget.size, self.reading.protected())

    def settle_rope(self, length: int) -> None:
        """Before the first pass, of `length` tokens: choose LongRoPE's factors for the whole run."""
        reading, budget = self.reading, self.budget
        if self.long_rope is None:
            return
        if reading.frozen is None:
            # A chunk that is not full is the prompt's last; a full one may be followed by any number.
            prompt = reading.prompt_length or (length if length < budget.chunk else None)
            total = self.total_length or prompt
            if budget.positions == "compact":
                widest = budget.size + budget.chunk + budget.local
                total = widest if total is None else min(total, widest)
            reading.frozen = self.long_rope.choose(total)
            reading.rotations = tuple(Rotation(reading.frozen.float()) for _ in self.layers)
        crossing = self.tokens_seen <= self.long_rope.point < self.tokens_seen + length
        if crossing and budget.positions == "true" and reading.frozen is self.long_rope.short:
            warnings.warn(
                f"this run began with LongRoPE's short factors and now passes position {self.long_rope.point}: they "
                "stay, as cached keys depend on them; give total_length, so that the right ones are chosen",
                stacklevel=2,
            )

    def receive_projections(self, layer: int, projections: Projections, queries: Queries, hidden: Tensor) -> None:
        """Called by the taps: q, k, v of the tokens that `update` is about to bring, a way to the queries, and h."""
        if layer in self.budgeted:
            late = self.reading.policy.scores_after_pass  # what every layer would have to hold until then
            self.layers[layer].arriving = Arriving(projections, queries, None if late else hidden)

    def finish_pass(self, surprise: Callable[[], Tensor]) -> None:
        """Called after a forward pass; a policy that scores by the model's predictions has its turn now.

        Args:
            surprise: gives how unexpected each token of the pass was, [batch, new].
        """
        if self.reading.policy.scores_after_pass:
            values = surprise()
            with own_precision(values.device):
                for i in self.budgeted:
                    self.layers[i].score_and_cut(self.layers[i].read()[0], values)

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """Where the new queries stand among the stored units (not among the seen tokens)."""
        layer = self.layers[layer_idx]
        return int(layer.storage.visible if layer_idx in self.budgeted else layer.get_seq_length())

    def crop(self, tokens_to_remove: int) -> None:
        """Take back the newest tokens (assisted generation); the number is negative, as in transformers."""
        super().crop(tokens_to_remove)
        if self.reading.next_slot is not None:
            self.reading.next_slot = self.reading.next_slot - abs(tokens_to_remove)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep only these batch rows, which may repeat."""
        reading = self.reading
        for name in ("pads", "next_slot"):
            rows = getattr(reading, name)
            if rows is not None:
                setattr(reading, name, rows[indices.to(rows.device)])
        super().batch_select_indices(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every batch row."""
        if self.tokens_seen:
            positions = self.layers[self.budgeted[0]].positions
            self.batch_select_indices(torch.arange(len(positions), device=positions.device).repeat_interleave(repeats))

    def reorder_cache(self, beam_idx: Any) -> None:
        """Follow a beam search."""
        self.batch_select_indices(beam_idx)

    def reset(self) -> None:
        """Forget the prompt; budget and policy stay."""
        self.reading.forget()
        super().reset()
