"""Any press of kvpress, compared like a policy: documents are read in one dense pass, then pruned to the budget.

Memory while reading grows with the document; what is held afterwards is what the press left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import DynamicCache, LogitsProcessorList

from locret.cache.budget import Budget
from locret.cache.plan import DECODED_AT_ONCE
from locret.engine.decode import Transcript, decode, stop_tokens
from locret.engine.detokenize import Detokenizer
from locret.engine.sampling import Sampling
from locret.errors import LocretError
from locret.interop.presses import PREFIX, get_press, supply_cache_position
from locret.models.families import attention_modules


@dataclass(frozen=True)
class PressPolicy:
    """A press under a name such as `kvpress:SnapKVPress`.

    Attributes:
        press: name of the press' class; its options are kvpress' defaults.
    """

    press: str
    budgeted: ClassVar[bool] = True
    prefill: ClassVar[str] = "dense"

    def __post_init__(self) -> None:
        get_press(self.press)

    @property
    def name(self) -> str:
        """What rows of results call it."""
        return PREFIX + self.press

    def open_reading(self, model: Any, tokenizer: Any, budget: Budget) -> PressReading:
        """Read documents for `model` and keep `budget.size` units a KV head; how to chunk is not asked."""
        return PressReading(model, tokenizer, self.press, budget.size)


@dataclass(frozen=True)
class PressSession:
    """A document that was read and pruned.

    Attributes:
        cache: what is left of it.
        masks: for each layer the units that the press hides instead of pruning them; None where it prunes.
        token_ids: [1, tokens], what was read.
        prefill_seconds: time spent on it.
        logits: [vocab], fp32: the prediction after its last token.
    """

    cache: Any
    masks: tuple[Any, ...]
    token_ids: Tensor
    prefill_seconds: float
    logits: Tensor

    @property
    def tokens_seen(self) -> int:
        """Tokens read, pruned ones included."""
        return self.token_ids.shape[1]

    @property
    def kv_bytes(self) -> int:
        """Bytes of keys and values that are held; units that are only hidden count."""
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in self.cache.layers)

    @property
    def offloaded_bytes(self) -> int:
        """All of them are on the device."""
        return 0

    def fork_cache(self) -> Any:
        """A cache that goes on from here. Tensors are shared: a layer replaces its own when it grows."""
        twin = copy(self.cache)
        twin.layers = [copy(layer) for layer in self.cache.layers]
        return twin


@dataclass(frozen=True)
class PressReading:
    """Reads documents under a press, and answers greedily on what is left."""

    model: Any
    tokenizer: Any
    press: str
    size: int

    @torch.no_grad()
    def read(self, document: Sequence[int], progress: Callable[[int, int], None], asked: int = 0) -> PressSession:
        """Read a document in one pass; no press takes notice of a question that is in front.

        Raises:
            LocretError: the press cannot work with this model or document; the message has its own words.
        """
        began = time.perf_counter()
        ids = torch.tensor([list(document)], device=self.model.device)
        cache, length = DynamicCache(), ids.shape[1]
        # kvpress keeps int(length * (1 - ratio)); a quarter of a unit more, lest rounding loses a whole one.
        press = get_press(self.press)(compression_ratio=max(0.0, 1 - (self.size + 0.25) / length))
        with self._told(), hidden_units(self.model, ()) as modules:
            with supply_cache_position(self.model), press(self.model):
                output = self.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            masks = tuple(module.masked_key_indices for module in modules)
        progress(length, length)
        return PressSession(cache, masks, ids, time.perf_counter() - began, output.logits[0, -1].float())

    @torch.no_grad()
    def ask(self, session: PressSession, question: Sequence[int], max_new_tokens: int, stop: Sequence[str]) -> str:
        """Read a question on top of a document, and answer; the session stays as it is."""
        cache, model = self._going_on(session)
        ids = torch.tensor([list(question)], device=self.model.device)
        transcript = Transcript(Detokenizer(self.tokenizer), stop)
        with self._told(), hidden_units(self.model, session.masks):
            for piece in ids.split(_at_once(session, ids.shape[1]), dim=-1):
                output = model(input_ids=piece, past_key_values=cache, use_cache=True, logits_to_keep=1)
            steps = decode(
                model,
                cache,
                output.logits[0, -1].float(),
                torch.cat([session.token_ids, ids], dim=-1),
                limit=max_new_tokens,
                stops=stop_tokens(self.model, self.tokenizer),
                sampling=Sampling(),
                processors=LogitsProcessorList(),
            )
            for token, _ in steps:
                transcript.push(token)
                if transcript.stopped:
                    break
        transcript.finish()
        return transcript.text

    def score(self, session: PressSession, ids: Sequence[int]) -> Iterator[Tensor]:
        """The logits that predict each of the given tokens behind a document, in pieces [piece, vocab] fp32.

        What hides units is on the model only while a pass computes, so whoever takes the pieces may use it in between.
        """
        cache, model = self._going_on(session)
        yield session.logits[None]
        read = torch.tensor([list(ids)[:-1]], device=self.model.device)
        for piece in read.split(_at_once(session, DECODED_AT_ONCE), dim=-1) if read.shape[1] else ():
            with torch.no_grad(), self._told(), hidden_units(self.model, session.masks):
                output = model(input_ids=piece, past_key_values=cache, use_cache=True)
            yield output.logits[0].float()

    def _going_on(self, session: PressSession) -> tuple[Any, _Positioned]:
        """A cache to go on with, and the model for it. A press may append units of its own: tokens come after them."""
        cache = session.fork_cache()
        return cache, _Positioned(self.model, max(session.tokens_seen, cache.get_seq_length()))

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Put the name of the press before what it complains about."""
        try:
            yield
        except (AssertionError, LookupError, RuntimeError, ValueError) as error:
            reason = str(error) or type(error).__name__
            raise LocretError(f"{PREFIX}{self.press} failed: {reason}: choose another press or budget") from error


def _at_once(session: PressSession, wanted: int) -> int:
    """How many tokens one pass on top of a document may read.

    A mask is shared by all layers, so they must be of one length; and to hide units, kvpress seeks a key that no query
    of the pass looks at, which it need not find for many queries. A single token is free of both.
    """
    even = len({layer.keys.shape[-2] for layer in session.cache.layers}) == 1
    return wanted if even and not any(session.masks) else 1


@contextmanager
def hidden_units(model: nn.Module, masks: Sequence[Any]) -> Iterator[list[Any]]:
    """Inside the block the attention modules, which are yielded, hide the units that `masks` name, a mask a layer.

    kvpress leaves such masks on the model, where they would hide units of whatever is read or asked next.
    """
    modules: list[Any] = attention_modules(model)
    try:
        for at, module in enumerate(modules):
            module.masked_key_indices = masks[at] if masks else None
        yield modules
    finally:
        for module in modules:
            module.masked_key_indices = None


class _Positioned:
    """The model with positions that go on from the true length, not from that of the pruned cache."""

    def __init__(self, model: Any, position: int) -> None:
        self.model, self.position = model, position

    def __call__(self, *, input_ids: Tensor, **kwargs: Any) -> Any:
        begin, self.position = self.position, self.position + input_ids.shape[1]
        positions = torch.arange(begin, self.position, device=input_ids.device)[None]
        return self.model(input_ids=input_ids, position_ids=positions, **kwargs)
