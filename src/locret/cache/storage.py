"""The contract of a storage (how kept units are held), and the register of all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol, TypeVar, cast, runtime_checkable

from torch import Tensor, nn

from locret.cache.budget import Budget
from locret.cache.buffer import Change
from locret.cache.room import Room
from locret.cache.rotation import Move
from locret.models.queries import Queries
from locret.registry import Registry


class Storage(Protocol):
    """Keys and values of one layer. A storage is a value: every method that changes something returns a new one.

    So a fork of a cache shares its tensors with the original until either goes on.

    Attributes:
        moves_late: True where keys may stay as they arrived, to be moved (compact positions) on their way to attention:
            every unit stands for itself, and all are recalled. Otherwise `map_keys` moves them before every pass.
        keeps_everything: True (False where it is missing, as the next two) for one that chooses what each pass sees and
            cannot work under a policy that evicts.
        takes_evicted: True for one that does something with what is evicted, and is idle without.
        stays_in_place: True for one whose recalled units cannot be moved, so that positions have to be true.
        fills_gaps: True for one that is an `InPlace` storage as well.
    """

    moves_late: ClassVar[bool] = False

    @property
    def units(self) -> int:
        """Stored units per KV head."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes really held on the device, scales and the like included.

        A storage that holds bytes elsewhere has `offloaded_bytes` as well.
        """
        ...

    def read(self) -> tuple[Tensor, Tensor]:
        """All keys and values, [batch, kv_heads, units, head_dim] each, ready for attention.

        They may be views of memory that is written when the cache goes on: clone them to keep them.
        """
        ...

    @property
    def visible(self) -> int:
        """Units per KV head that the next `recall` gives, of those stored now."""
        ...

    def recall(self, new: int, queries: Queries | None) -> tuple[Tensor, Tensor]:
        """Keys and values for a pass' attention, `visible + new` of them, the pass' own `new` units last.

        Where more are shown than `units`, the stored ones come last, in order.

        Args:
            new: how many units the pass has appended.
            queries: gives the pass' queries, for a storage that chooses what they see; None without hooks.
        """
        ...

    def append(self, keys: Tensor, values: Tensor) -> Storage:
        """With new units at the end."""
        ...

    def gather(self, indices: Tensor) -> Storage:
        """Only the units at `indices` [batch, kv_heads, kept], in that order."""
        ...

    def evict(self, kept: Tensor, scores: Tensor) -> Storage:
        """Only the units at `kept`; what the others held may go on in these.

        Args:
            kept: [batch, kv_heads, kept], ascending.
            scores: [batch, kv_heads, units], of all units: what the policy thinks of each.
        """
        ...

    def map_keys(self, change: Move) -> Storage:
        """With the keys changed by `change`, now or on their way to attention; the shape stays as it is."""
        ...

    def select_batch(self, indices: Tensor) -> Storage:
        """Only the batch rows at `indices`, which may repeat."""
        ...

    @classmethod
    def stack(cls, rows: Sequence[Storage]) -> Storage:
        """One batch of storages of the same kind; those with fewer units are padded at the front."""
        ...


class InPlace(Protocol):
    """What a storage has besides that writes units in place: it moves less where order does not matter."""

    def with_room(self, room: Room) -> Storage:
        """The same units; memory that is allocated from now on is of this size."""
        ...

    def first(self, count: int) -> Storage:
        """Only the first `count` units; nothing is copied."""
        ...

    def fill(self, gaps: Change) -> Storage:
        """Only the units that `gaps` leaves, most of them where they are (`locret.cache.fillings`)."""
        ...


def in_place(storage: Storage) -> InPlace | None:
    """The storage, if it works in place."""
    return cast(InPlace, storage) if getattr(storage, "fills_gaps", False) else None


@runtime_checkable
class Sized(Protocol):
    """A maker of storages that show a pass only some units, and can have sizes that go by a budget."""

    def for_budget(self, budget: Budget) -> Callable[[], Storage]:
        """A maker of empty storages that show a pass at most `budget.size` units of the past.

        Raises:
            LocretError: that is too few.
        """
        ...


@runtime_checkable
class Trained(Protocol):
    """A maker of storages that have weights, trained for one model, in every layer."""

    def for_model(self, model: nn.Module) -> Sequence[Callable[[], Storage]]:
        """Makers of empty storages, one a layer of the model.

        Raises:
            LocretError: there are no weights for this model.
        """
        ...


Maker = TypeVar("Maker", bound=Callable[[], Any])
_storages: Registry[Callable[[], Storage]] = Registry("storage")


def register_storage(name: str) -> Callable[[Maker], Maker]:
    """Decorator: register the maker of a storage, mostly its class; called without arguments it gives an empty one."""

    def add(maker: Maker) -> Maker:
        _storages.register(name)(maker)
        return maker

    return add


def get_storage(name: str) -> Callable[[], Storage]:
    """The maker of an empty storage.

    Raises:
        LocretError: unknown storage.
    """
    return _storages.get(name)


def list_storages() -> list[str]:
    """Names of all registered storages."""
    return _storages.names()
