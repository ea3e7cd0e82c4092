"""A queue of work in which those who ask for much do not hold up those who ask for little."""

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """Takes one item of each owner in turn, in the order in which the owners came.

    Whoever has had a turn stands at the end, so an item waits for at most one item of each other
    owner before its own earlier ones are gone.
    """

    def __init__(self) -> None:
        self._owners: OrderedDict[Hashable, deque[Item]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, owner: Hashable, items: Iterable[Item]) -> None:
        """Puts an owner's items behind those it has, and a new owner behind all others."""
        items = deque(items)
        if items:
            self._owners.setdefault(owner, deque()).extend(items)
            self._count += len(items)

    def first(self) -> Item:
        """The next item, which stays.

        Raises:
            StopIteration: if there is none.
        """
        return next(iter(self._owners.values()))[0]

    def pop(self) -> Item:
        """The next item.

        Raises:
            KeyError: if there is none.
        """
        owner, items = self._owners.popitem(last=False)
        item = items.popleft()
        self._count -= 1
        if items:
            self._owners[owner] = items
        return item

    def drop(self, owner: Hashable) -> None:
        """Forgets what an owner still has."""
        self._count -= len(self._owners.pop(owner, ()))
