"""Names for the small things a user picks by name: policies, storages, attentions, families, tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from locret.errors import LocretError

T = TypeVar("T")


class Registry(Generic[T]):
    """A named table that is filled beside each implementation and refuses a second entry of one name."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator: put the decorated thing under `name`.

        Raises:
            LocretError: the name is taken.
        """

        def add(entry: T) -> T:
            if name in self._entries:
                raise LocretError(f"{self.kind} {name!r} is registered twice: choose another name")
            self._entries[name] = entry
            return entry

        return add

    def get(self, name: str) -> T:
        """The entry called `name`.

        Raises:
            LocretError: no such entry; the message lists those there are.
        """
        if name not in self._entries:
            known = ", ".join(self.names())
            raise LocretError(f"unknown {self.kind} {name!r}: choose one of {known}")
        return self._entries[name]

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())
