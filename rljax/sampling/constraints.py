"""What may follow, and what ends a row, as functions of a state that is carried along.

A constraint is a pytree (flax.struct.dataclass) with the methods of `Constraint`; its arrays are
arguments of the sampling program, its methods are traced into it. The state of a row is a pytree of
arrays [N, ...] and sees every completion token of its row, one at a time.
"""

from typing import Any, Protocol

from jax import Array

State = Any  # pytree of arrays [N, ...]


class Constraint(Protocol):
    """Watches the completion of N rows."""

    def start(self, rows: int) -> State:
        """The state of `rows` rows before their first token."""
        ...

    def allowed(self, state: State) -> Array | None:
        """[N, V] bool, which tokens may come next; None: all."""
        ...

    def advance(self, state: State, tokens: Array) -> State:
        """The state after one more token of each row, tokens [N] i32."""
        ...

    def finished(self, state: State) -> Array:
        """[N] bool, whether the row ends here, the latest token included."""
        ...
