"""Looking at attention: a function that sees every layer's queries and keys before sdpa runs.

Label making needs the query and key tensors after rotary embedding, which no module hook can see.
The attention function `locret_observed` hands them to an observer and then does what transformers'
own `sdpa` does, so the forward pass is the same with and without an observer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from locret.attention.select import use_implementation
from locret.errors import LocretError
from locret.models.families import attention_modules

NAME = "locret_observed"

Observer = Callable[[int, Tensor, Tensor, Tensor, float], None]
"""`observer(layer, query, key, value, scaling)`, called once a layer in every forward pass.

Shapes: query [batch, q_heads, new, head_dim]; key and value [batch, kv_heads, stored + new,
head_dim], all after rotary embedding; the attention logits are `scaling * query @ key.T`.
"""

_watched: WeakKeyDictionary[nn.Module, tuple[int, Observer]] = WeakKeyDictionary()


@contextmanager
def observe_attention(model: nn.Module, observer: Observer) -> Iterator[None]:
    """Call `observer` in every layer of every forward pass of `model` inside the block.

    The model's attention implementation is `locret_observed` meanwhile, and what it was before
    afterwards, whether or not the block raises.

    Raises:
        LocretError: the model is being observed already.
    """
    modules = attention_modules(model)
    if any(module in _watched for module in modules):
        raise LocretError(
            "this model's attention is being observed already: leave the first "
            "`observe_attention` block before entering another"
        )
    try:
        for layer, module in enumerate(modules):
            _watched[module] = (layer, observer)
        with use_implementation(model, NAME):
            yield
    finally:
        for module in modules:
            _watched.pop(module, None)


def observed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Transformers' attention function: tell the observer of `module`, then run `sdpa`."""
    watched = _watched.get(module)
    if watched is not None:
        layer, observer = watched
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        observer(layer, query, key, value, scale)
    return sdpa_attention_forward(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs)


AttentionInterface.register(NAME, observed_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
